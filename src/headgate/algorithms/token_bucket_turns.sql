-- The token bucket where it is more than a plain one: see token_bucket.py, whose steps these are. The notes and their sums
-- are in token_bucket_notes.sql.
-- Words: those of token_bucket.sql, and for a giving back the receipt: place_q, place_r, credited_q, credited_r, and 1 for
-- `only_as_last`. Facts: debt_q, debt_r, wait; or debt_q, debt_r, -wait - 1, and the receipt.
create function headgate.token_bucket_noted(
  cell headgate.cell, now_us bigint, action text, max_wait bigint, words bigint[], at integer
) returns headgate.cell
language plpgsql immutable parallel safe as $$
declare
  rate numeric := words[at + 5];
  increment numeric := words[at + 1] * rate + words[at + 2];
  tolerance numeric := words[at + 3] * rate + words[at + 4];
  now numeric := now_us * rate;
  bucket headgate.bucket := headgate.settle(cell, now_us, tolerance, rate);
  debt numeric;
  wait numeric := 0;
  taken integer := 0;
  place numeric;
  credited numeric;
begin
  if action = 'give_back' then
    bucket := headgate.given_back(
      bucket, now_us, increment, tolerance, words[at + 6] * rate + words[at + 7],
      words[at + 8] * rate + words[at + 9], words[at + 10] = 1
    );
    cell := headgate.written(cell, bucket, now_us, tolerance);
    place := greatest(bucket.tat, now);
    cell.allowed := true;
  elsif action = 'take' then
    bucket.tat := greatest(
      bucket.tat, least(greatest(bucket.tat, now) + increment, now + 2251799813685247 * rate)
    );
    cell := headgate.written(cell, bucket, now_us, tolerance);
    place := bucket.tat;
    cell.allowed := true;
  else
    debt := greatest(0, bucket.tat - now) + increment;
    if debt > tolerance then
      wait := headgate.ceil_div(debt - tolerance, rate);
      for i in 1 .. cardinality(bucket.vacancies) / 2 loop
        place := headgate.turn_us(bucket.vacancies[2 * i - 1], now_us, increment, tolerance, rate);
        if greatest(bucket.vacancies[2 * i - 1], place * rate) + increment <= bucket.vacancies[2 * i] then
          if place - now_us <= wait then
            wait := place - now_us;
            taken := i;
          end if;
          exit;
        end if;
      end loop;
    end if;
    cell.allowed := wait <= max_wait;
    if action = 'spend' and cell.allowed then
      credited := bucket.credited;
      if taken > 0 then
        place := bucket.vacancies[2 * taken - 1];
        place := greatest(place, headgate.turn_us(place, now_us, increment, tolerance, rate) * rate) + increment;
        credited := headgate.nominal(bucket, place) - place;
        if place < bucket.vacancies[2 * taken] then
          bucket.vacancies[2 * taken - 1] := place;
        else
          bucket.vacancies := bucket.vacancies[: 2 * taken - 2] || bucket.vacancies[2 * taken + 1 :];
        end if;
      else -- a turn is a whole microsecond, and counts as such
        place := greatest(bucket.tat, (now_us + wait) * rate) + increment;
        bucket.tat := place;
      end if;
      if wait > 0 then
        bucket.waiting_until_us := greatest(bucket.waiting_until_us, now_us + wait);
      end if;
      cell := headgate.written(cell, bucket, now_us, tolerance);
    else
      if wait > 0 and cardinality(bucket.vacancies) > 0 then
        wait := least(wait, headgate.free_us(bucket, increment, tolerance) - now_us);
      end if;
      place := greatest(bucket.tat, now);
      if action <> 'peek' and bucket.is_mended then
        cell := headgate.written(cell, bucket, now_us, tolerance);
      end if;
    end if;
  end if;
  debt := greatest(0, bucket.tat - now);
  credited := coalesce(credited, bucket.credited);
  cell.facts := array[
    div(debt, rate), mod(debt, rate), -wait - 1, div(place, rate), mod(place, rate), div(credited, rate), mod(credited, rate)
  ]::bigint[];
  return cell;
end
$$;

-- When a hit may go that takes a vacancy which begins there.
create function headgate.turn_us(begins numeric, now_us numeric, increment numeric, tolerance numeric, rate numeric)
returns numeric
language sql immutable parallel safe as $$
  select greatest(now_us, headgate.ceil_div(begins + increment - tolerance, rate))
$$;

-- When who comes back finds room behind the last, if what is free was closed up by then.
create function headgate.free_us(bucket headgate.bucket, increment numeric, tolerance numeric) returns numeric
language plpgsql immutable parallel safe as $$
declare
  closed numeric := bucket.tat;
  until_us numeric := bucket.waiting_until_us;
begin
  for i in 1 .. cardinality(bucket.vacancies) / 2 loop
    closed := closed - greatest(
      0, bucket.vacancies[2 * i] - greatest(bucket.vacancies[2 * i - 1], until_us * bucket.rate)
    );
  end loop;
  return greatest(until_us, headgate.ceil_div(closed + increment - tolerance, bucket.rate));
end
$$;

-- The bucket with what a hit took given back, as far as time has not paid it yet.
create function headgate.given_back(
  bucket headgate.bucket, now_us numeric, increment numeric, tolerance numeric, place numeric, credited_before numeric,
  only_as_last boolean
) returns headgate.bucket
language plpgsql immutable parallel safe as $$
declare
  rate numeric := bucket.rate;
  nominal numeric := place + credited_before;
  ends numeric := least(place, headgate.actual(bucket, nominal));
  owed numeric := least(increment, ends - now_us * rate);
  last numeric := bucket.tat + bucket.credited;
  turn_us numeric;
begin
  if owed <= 0 or nominal > last or bucket.credited >= 1125899906842623 * rate then
    return bucket; -- nothing comes back
  end if;
  if nominal = last then
    bucket := headgate.leave(bucket, owed);
    if not only_as_last and bucket.waiting_until_us > 0 then -- no later turn was told to those who are left
      turn_us := headgate.ceil_div(bucket.tat - tolerance, rate);
      bucket.waiting_until_us := least(bucket.waiting_until_us, turn_us);
      if turn_us <= now_us then
        bucket := headgate.close_up(bucket, now_us);
      end if;
    end if;
  elsif bucket.waiting_until_us > 0 then
    if not only_as_last then
      bucket := headgate.with_vacancy(bucket, ends - owed, ends);
    elsif ends - tolerance > now_us * rate then -- its turn has not come; until it is past, nothing is closed up
      bucket := headgate.with_vacancy(bucket, ends - owed, ends);
      bucket.waiting_until_us := greatest(bucket.waiting_until_us, headgate.ceil_div(ends, rate));
    end if;
  elsif not only_as_last then
    bucket := headgate.move_up(bucket, ends - owed, ends);
  end if;
  return bucket;
end
$$;
