-- Concurrency: see concurrency.py, whose steps these are. Stored as names = "holder:number" of each slot, and numbers = when
-- it expires, in that order.
-- Words: cost, most, ttl, and which of the holders. Facts: held, free_at, last.

-- No slot that expires later than `most` expires later than its holder's ttl from now, where the holder's name tells it.
create function headgate.shortened(names text[], expiries bigint[], now bigint, most bigint) returns bigint[]
language plpgsql immutable parallel safe as $$
declare
  own numeric;
begin
  for i in 1 .. cardinality(names) loop
    own := substring(names[i] from '^[0-9A-Fa-f]+\.([0-9]+):[0-9]+$');
    if own is not null and expiries[i] > most and expiries[i] > now + own then
      expiries[i] := now + own;
    end if;
  end loop;
  return expiries;
end
$$;

-- The slots without some, and with others that expire then; in order.
create function headgate.with_slots(cell headgate.cell, without text[], more text[], expiry bigint) returns headgate.cell
language plpgsql immutable parallel safe as $$
begin
  select array_agg(at order by at, slot collate "C"), array_agg(slot order by at, slot collate "C")
  into cell.numbers, cell.names
  from (
    select at, slot from unnest(cell.numbers, cell.names) as known (at, slot) where slot <> all (without)
    union all
    select expiry, unnest(more)
  ) as slots (at, slot);
  cell.numbers := coalesce(cell.numbers, '{}');
  cell.names := coalesce(cell.names, '{}');
  cell.is_changed := true;
  return cell;
end
$$;

create function headgate.concurrency(
  cell headgate.cell, now bigint, action text, max_wait bigint, words bigint[], at integer, holder text
) returns headgate.cell
language plpgsql immutable parallel safe as $$
declare
  cost bigint := words[at + 1];
  most bigint := words[at + 2];
  expiry bigint := now + words[at + 3];
  held integer;
  own text[] := '{}';
  free_at bigint := 0;
  first integer := 1;
begin
  cell.numbers := coalesce(cell.numbers, '{}');
  cell.names := coalesce(cell.names, '{}');
  held := cardinality(cell.numbers);
  while first <= held and cell.numbers[first] <= now loop
    first := first + 1;
  end loop;
  if first > 1 then
    cell.numbers := cell.numbers[first :];
    cell.names := cell.names[first :];
    cell.is_changed := true;
    held := cardinality(cell.numbers);
  end if;
  if held > 0 and cell.numbers[held] > expiry then
    cell.numbers := headgate.shortened(cell.names, cell.numbers, now, expiry);
    cell := headgate.with_slots(cell, '{}', '{}', 0);
  end if;
  if action <> 'peek' then
    for i in 1 .. cost loop
      own := own || (holder || ':' || i);
    end loop;
  end if;
  if action = 'give_back' then
    cell.allowed := true;
    cell := headgate.with_slots(cell, own, '{}', 0);
  elsif action = 'renew' then
    cell.allowed := cell.names @> own;
    if cell.allowed and cost > 0 then
      cell := headgate.with_slots(cell, own, own, expiry);
    end if;
  else
    cell.allowed := held + cost <= most;
    if not cell.allowed and held > 0 then
      free_at := cell.numbers[least(held, held + cost - most)];
    elsif cell.allowed and action = 'spend' and cost > 0 then
      if cell.names && own or (held > 0 and cell.numbers[held] > expiry) then
        cell := headgate.with_slots(cell, own, own, expiry);
      else
        for i in 1 .. cost loop
          cell.numbers := cell.numbers || expiry;
        end loop;
        cell.names := cell.names || own;
        cell.is_changed := true;
      end if;
    end if;
  end if;
  held := cardinality(cell.numbers);
  cell.facts := array[held, free_at, case when held > 0 then cell.numbers[held] else 0 end];
  if held > 0 then
    cell.until_us := cell.numbers[held];
  else
    cell := headgate.emptied(cell);
  end if;
  return cell;
end
$$;
