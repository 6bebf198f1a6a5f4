-- The sliding log: see sliding_log.py, whose steps these are.
-- Stored as a = total, and numbers = instant, cost for each entry, oldest first.
-- Words: cost, most, period, and for a giving back the entry's instant and cost. Facts: total, newest, free_at.
create function headgate.sliding_log(
  cell headgate.cell, now bigint, action text, max_wait bigint, words bigint[], at integer
) returns headgate.cell
language plpgsql immutable parallel safe as $$
declare
  cost bigint := words[at + 1];
  most bigint := words[at + 2];
  period bigint := words[at + 3];
  log bigint[] := coalesce(cell.numbers, '{}');
  total bigint := coalesce(cell.a, 0);
  size integer := cardinality(log);
  newest bigint := 0;
  free_at bigint := 0;
  surplus bigint;
  first integer := 1;
  is_shifted boolean := false;
  is_written boolean := action = 'give_back' or action = 'take';
begin
  if size > 0 and log[size - 1] > now then -- the clock stepped back
    is_shifted := true;
    newest := log[size - 1] - now;
    for i in 1 .. size by 2 loop
      log[i] := greatest(0, log[i] - newest);
    end loop;
  end if;
  while first < size and log[first] + period <= now loop -- out of view
    total := total - log[first + 1];
    first := first + 2;
  end loop;
  if first > 1 then
    log := log[first :];
    size := cardinality(log);
    is_written := is_written or not is_shifted;
  end if;
  cell.allowed := true;
  if action = 'give_back' then
    for i in 1 .. size by 2 loop
      if log[i] = words[at + 4] and log[i + 1] = words[at + 5] then
        surplus := greatest(0, log[i + 1] - cost);
        total := total - (log[i + 1] - surplus);
        if surplus > 0 then
          log[i + 1] := surplus;
        else
          log := log[: i - 1] || log[i + 2 :];
          size := size - 2;
        end if;
        exit;
      end if;
    end loop;
  elsif action <> 'take' then
    surplus := total + cost - most;
    cell.allowed := surplus <= 0;
    if surplus > 0 and surplus <= total then
      first := 1;
      while surplus > log[first + 1] loop
        surplus := surplus - log[first + 1];
        first := first + 2;
      end loop;
      free_at := log[first] + period;
    end if;
    if action = 'spend' and cell.allowed then
      is_written := true;
    elsif action <> 'peek' and is_shifted then
      is_written := true;
    end if;
  end if;
  if cost > 0 and (action = 'take' or (action = 'spend' and cell.allowed)) then
    log := log || array[now, cost];
    size := size + 2;
    total := total + cost;
  end if;
  newest := case when total > 0 then log[size - 1] else 0 end;
  if is_written and total = 0 then
    cell := headgate.emptied(cell);
  elsif is_written then
    cell.a := total;
    cell.numbers := log;
    cell.until_us := newest + period;
    cell.is_changed := true;
  end if;
  cell.facts := array[total, newest, free_at];
  return cell;
end
$$;
