-- The sliding window over two counters: see sliding_window.py, whose steps these are.
-- Stored as a = start, b = current, c = previous.
-- Words: cost, most, period, step, steps, and for a giving back the receipt. Facts: start, current, previous.
create function headgate.sliding_window(
  cell headgate.cell, now bigint, action text, max_wait bigint, words bigint[], at integer
) returns headgate.cell
language plpgsql immutable parallel safe as $$
declare
  cost bigint := words[at + 1];
  most bigint := words[at + 2];
  period bigint := words[at + 3];
  step bigint := words[at + 4];
  steps bigint := words[at + 5];
  start bigint := now - now % period;
  current bigint := 0;
  previous bigint := 0;
  remaining bigint;
  shown bigint;
  is_carried boolean := false;
  is_written boolean := action = 'give_back' or action = 'take';
begin
  if cell.a is not null and cell.a >= start - period then
    if cell.a < start then
      previous := cell.b;
    elsif cell.a > now then -- the clock stepped back
      current := cell.b + cell.c;
      is_carried := true;
    else
      start := cell.a;
      current := cell.b;
      previous := cell.c;
    end if;
  end if;
  cell.allowed := true;
  if action = 'give_back' then
    if is_carried then
      null;
    elsif start = words[at + 6] then
      current := greatest(0, current - cost);
    elsif start - period = words[at + 6] then
      previous := greatest(0, previous - cost);
    end if;
  elsif action = 'take' then
    current := least(2305843009213693952, current) + cost;
  else
    remaining := start + period - now;
    remaining := remaining / step + case when remaining % step > 0 then 1 else 0 end;
    remaining := least(steps, greatest(0, remaining));
    shown := least(previous, 4503599627370496 / steps) * remaining; -- only a limit that was far higher comes near that
    shown := shown / steps + case when shown % steps > 0 then 1 else 0 end;
    cell.allowed := current + shown + cost <= most;
    if action = 'spend' and cell.allowed then
      current := current + cost;
      is_written := true;
    elsif action <> 'peek' then
      is_written := is_carried;
    end if;
  end if;
  if is_written and current = 0 and previous = 0 then
    cell := headgate.emptied(cell);
  elsif is_written then
    cell.a := start;
    cell.b := current;
    cell.c := previous;
    cell.until_us := start + case when current > 0 then 2 * period else period end;
    cell.is_changed := true;
  end if;
  cell.facts := array[start, current, previous];
  return cell;
end
$$;
