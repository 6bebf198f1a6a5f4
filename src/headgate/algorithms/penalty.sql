-- The penalty: see penalty.py, whose steps these are. Stored as a = ends, numbers = the instant of each denial, oldest first.
-- Words: cost, denials, period, block. Facts: ends, counted, newest.
-- With the action `count`, its group was denied, and one denial more is counted.
create function headgate.penalty(
  cell headgate.cell, now bigint, action text, max_wait bigint, words bigint[], at integer
) returns headgate.cell
language plpgsql immutable parallel safe as $$
declare
  cost bigint := words[at + 1];
  denials bigint := words[at + 2];
  period bigint := words[at + 3];
  block bigint := words[at + 4];
  ends bigint := coalesce(cell.a, 0);
  known bigint[] := coalesce(cell.numbers, '{}');
  instants bigint[] := '{}';
  size integer := cardinality(known);
  until_us bigint;
  shift bigint := 0;
  is_written boolean := action = 'give_back' or action = 'take';
begin
  if ends > 0 then
    size := 0;
    if ends - now > block then -- the clock stepped back
      ends := now + block;
      is_written := is_written or action <> 'peek';
    elsif ends <= now then
      ends := 0;
    end if;
  elsif size > 0 then
    shift := greatest(0, known[size] - now);
    for i in 1 .. size loop
      known[i] := greatest(0, known[i] - shift);
      if known[i] + period > now then
        instants := instants || known[i];
      end if;
    end loop;
    size := cardinality(instants);
    is_written := is_written or (shift > 0 and action <> 'peek');
  end if;
  cell.allowed := ends = 0;
  if (action = 'take' or action = 'count') and ends = 0 and cost > 0 then
    instants := instants || now;
    size := size + 1;
    is_written := true;
    if size >= denials then
      ends := now + block;
      instants := '{}';
      size := 0;
    end if;
  end if;
  is_written := is_written or (action = 'spend' and cell.allowed);
  cell.facts := array[ends, size, case when size > 0 then instants[size] else 0 end];
  if is_written and ends = 0 and size = 0 then
    cell := headgate.emptied(cell);
  elsif is_written then
    until_us := case when ends > 0 then ends else instants[size] + period end;
    if cell.until_us <> until_us or cell.a is distinct from ends or cell.numbers is distinct from instants then
      cell.a := ends;
      cell.numbers := instants;
      cell.until_us := until_us;
      cell.is_changed := true;
    end if;
  end if;
  if action = 'take' or action = 'give_back' then
    cell.allowed := true;
  end if;
  return cell;
end
$$;
