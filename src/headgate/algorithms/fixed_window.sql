-- The fixed window: see fixed_window.py, whose steps these are. Stored as a = start, b = spent.
-- Words: cost, most, period, with a period of 0 four boundaries, and for a giving back the receipt. Facts: start, spent.

-- The window that an instant is in, as its start; nothing where the table does not say.
create function headgate.window_start(instant bigint, words bigint[], at integer) returns bigint
language plpgsql immutable parallel safe as $$
declare
  period bigint := words[at + 3];
begin
  if period > 0 then
    return instant - instant % period;
  end if;
  for i in at + 5 .. at + 7 loop
    if words[i - 1] <= instant and instant < words[i] then
      return words[i - 1];
    end if;
  end loop;
  return null;
end
$$;

-- Where the window ends that begins there.
create function headgate.window_end(start bigint, words bigint[], at integer) returns bigint
language plpgsql immutable parallel safe as $$
begin
  if words[at + 3] > 0 then
    return start + words[at + 3];
  end if;
  for i in at + 5 .. at + 7 loop
    if words[i - 1] = start then
      return words[i];
    end if;
  end loop;
  return null;
end
$$;

create function headgate.fixed_window(
  cell headgate.cell, now bigint, action text, max_wait bigint, words bigint[], at integer
) returns headgate.cell
language plpgsql immutable parallel safe as $$
declare
  cost bigint := words[at + 1];
  most bigint := words[at + 2];
  start bigint := headgate.window_start(now, words, at);
  finish bigint := headgate.window_end(start, words, at);
  own bigint;
  length bigint;
  spent bigint := 0;
  is_carried boolean := false;
  is_written boolean := action = 'give_back' or action = 'take';
begin
  if start is null then
    cell.allowed := null;
    return cell;
  end if;
  if cell.a is not null then
    if cell.a = start then
      spent := cell.b;
    elsif cell.a > now then -- the clock stepped back
      finish := now + (finish - start);
      start := now;
      spent := cell.b;
      is_carried := true;
    else
      own := headgate.window_start(cell.a, words, at);
      length := headgate.window_end(own, words, at) - own;
      if own is not null and cell.a <> own and cell.a + length > now then
        start := cell.a;
        finish := cell.a + length;
        spent := cell.b;
      end if;
    end if;
  end if;
  cell.allowed := true;
  if action = 'give_back' then
    if start = words[at + case when words[at + 3] > 0 then 4 else 8 end] and not is_carried then
      spent := greatest(0, spent - cost);
    end if;
  elsif action = 'take' then
    spent := least(4611686018427387904, spent) + cost;
  else
    cell.allowed := spent + cost <= most;
    if action = 'spend' and cell.allowed then
      spent := spent + cost;
      is_written := true;
    elsif action <> 'peek' then
      is_written := is_carried;
    end if;
  end if;
  if is_written and spent = 0 then
    cell := headgate.emptied(cell);
  elsif is_written then
    cell.a := start;
    cell.b := spent;
    cell.until_us := finish;
    cell.is_changed := true;
  end if;
  cell.facts := array[start, spent];
  return cell;
end
$$;
