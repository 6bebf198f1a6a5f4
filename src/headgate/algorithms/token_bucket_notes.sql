-- The token bucket with notes: see token_bucket.py and token_bucket_notes.py, whose steps these are.
-- Times are counted in parts of 1/rate microsecond, as `numeric`, which is exact for integers of any size.
-- Stored as a, b, c of the `tat`, and notes = stamp, credited, kept_until, waiting_until, number of vacancies, and the spans
-- (begin, end): the vacancies, and then what was returned.
create type headgate.bucket as (
  tat numeric,
  rate numeric,
  credited numeric,
  kept_until_us numeric,
  waiting_until_us numeric,
  vacancies numeric[],
  returned numeric[],
  is_mended boolean
);

-- Rounded down.
create function headgate.floor_div(a numeric, b numeric) returns numeric
language sql immutable parallel safe as $$
  select div(a, b) - case when mod(a, b) < 0 then 1 else 0 end
$$;

-- Rounded up.
create function headgate.ceil_div(a numeric, b numeric) returns numeric
language sql immutable parallel safe as $$
  select div(a, b) + case when mod(a, b) > 0 then 1 else 0 end
$$;

-- The spans, each rounded to whole microseconds, against the caller.
create function headgate.within(spans numeric[], known numeric, rate numeric) returns numeric[]
language plpgsql immutable parallel safe as $$
declare
  rounded numeric[] := '{}';
  begins numeric;
  ends numeric;
begin
  for i in 1 .. cardinality(spans) / 2 loop
    begins := headgate.ceil_div(spans[2 * i - 1], known) * rate;
    ends := headgate.floor_div(spans[2 * i], known) * rate;
    if begins < ends then
      rounded := rounded || array[begins, ends];
    end if;
  end loop;
  return rounded;
end
$$;

-- The spans and another one; what touches is one.
create function headgate.joined(spans numeric[], begins numeric, ends numeric) returns numeric[]
language plpgsql immutable parallel safe as $$
declare
  before numeric[] := '{}';
  after numeric[] := '{}';
begin
  for i in 1 .. cardinality(spans) / 2 loop
    if spans[2 * i] < begins then
      before := before || spans[2 * i - 1 : 2 * i];
    elsif spans[2 * i - 1] > ends then
      after := after || spans[2 * i - 1 : 2 * i];
    else
      begins := least(begins, spans[2 * i - 1]);
      ends := greatest(ends, spans[2 * i]);
    end if;
  end loop;
  return before || begins || ends || after;
end
$$;

-- The nominal place of an actual one; the first of those that there are.
create function headgate.nominal(bucket headgate.bucket, place numeric) returns numeric
language plpgsql immutable parallel safe as $$
declare
  behind numeric := 0;
begin
  for i in reverse cardinality(bucket.returned) / 2 .. 1 loop
    exit when bucket.returned[2 * i] - bucket.credited + behind < place;
    behind := behind + bucket.returned[2 * i] - bucket.returned[2 * i - 1];
  end loop;
  return place + bucket.credited - behind;
end
$$;

-- Where a nominal place is now.
create function headgate.actual(bucket headgate.bucket, nominal numeric) returns numeric
language plpgsql immutable parallel safe as $$
declare
  place numeric := nominal - bucket.credited;
begin
  for i in 1 .. cardinality(bucket.returned) / 2 loop
    if bucket.returned[2 * i] > nominal then
      place := place + bucket.returned[2 * i] - greatest(bucket.returned[2 * i - 1], nominal);
    end if;
  end loop;
  return place;
end
$$;

create function headgate.credit(bucket headgate.bucket, more numeric) returns headgate.bucket
language plpgsql immutable parallel safe as $$
begin
  bucket.credited := least(bucket.credited + more, 1125899906842623 * bucket.rate);
  bucket.kept_until_us := greatest(bucket.kept_until_us, headgate.ceil_div(bucket.tat, bucket.rate));
  return bucket;
end
$$;

-- Move all by which the clock is behind, as if it had stood still; nominal places stay.
create function headgate.set_back(bucket headgate.bucket, ahead numeric) returns headgate.bucket
language plpgsql immutable parallel safe as $$
begin
  bucket := headgate.credit(bucket, ahead);
  bucket.tat := bucket.tat - ahead;
  bucket.waiting_until_us := greatest(0, bucket.waiting_until_us - headgate.floor_div(ahead, bucket.rate));
  for i in 1 .. cardinality(bucket.vacancies) loop
    bucket.vacancies[i] := bucket.vacancies[i] - ahead;
  end loop;
  return bucket;
end
$$;

-- Take a free stretch out: what lies behind it moves up.
create function headgate.move_up(bucket headgate.bucket, begins numeric, ends numeric) returns headgate.bucket
language plpgsql immutable parallel safe as $$
declare
  returned numeric[];
begin
  returned := headgate.joined(
    bucket.returned, headgate.nominal(bucket, begins), headgate.nominal(bucket, ends)
  );
  if cardinality(returned) > 128 then
    returned := returned[3 :];
  end if;
  bucket.returned := returned;
  bucket := headgate.credit(bucket, ends - begins);
  bucket.tat := bucket.tat - (ends - begins);
  return bucket;
end
$$;

-- At an instant, nobody waits any more: what was left free moves up.
create function headgate.close_up(bucket headgate.bucket, at_us numeric) returns headgate.bucket
language plpgsql immutable parallel safe as $$
declare
  vacancies numeric[] := bucket.vacancies;
  at numeric := at_us * bucket.rate;
begin
  for i in reverse cardinality(vacancies) / 2 .. 1 loop
    if vacancies[2 * i] > at then
      bucket := headgate.move_up(bucket, greatest(vacancies[2 * i - 1], at), vacancies[2 * i]);
    end if;
  end loop;
  bucket.vacancies := '{}';
  bucket.waiting_until_us := 0;
  return bucket;
end
$$;

-- Let time pass until now: if the last turn has come, vacancies were closed up. What is paid is forgotten.
create function headgate.pass_time(bucket headgate.bucket, now_us numeric) returns headgate.bucket
language plpgsql immutable parallel safe as $$
declare
  now numeric := now_us * bucket.rate;
  behind numeric := 0;
  vacancies numeric[] := '{}';
begin
  if bucket.waiting_until_us <= now_us then
    bucket := headgate.close_up(bucket, bucket.waiting_until_us);
  end if;
  if bucket.kept_until_us <= now_us and bucket.tat <= now then
    bucket.credited := 0;
    bucket.kept_until_us := 0;
    bucket.waiting_until_us := 0;
    bucket.vacancies := '{}';
    bucket.returned := '{}';
    return bucket;
  end if;
  for i in reverse cardinality(bucket.returned) / 2 .. 1 loop
    if bucket.returned[2 * i] - bucket.credited + behind <= now then -- where it was is past
      bucket.returned := bucket.returned[2 * i + 1 :];
      exit;
    end if;
    behind := behind + bucket.returned[2 * i] - bucket.returned[2 * i - 1];
  end loop;
  for i in 1 .. cardinality(bucket.vacancies) / 2 loop
    if bucket.vacancies[2 * i] > now then
      vacancies := vacancies || greatest(bucket.vacancies[2 * i - 1], now) || bucket.vacancies[2 * i];
    end if;
  end loop;
  bucket.vacancies := vacancies;
  bucket.tat := greatest(bucket.tat, now);
  return bucket;
end
$$;

-- The last leaves, and so does what is free or missing before it.
create function headgate.leave(bucket headgate.bucket, owed numeric) returns headgate.bucket
language plpgsql immutable parallel safe as $$
declare
  n integer;
begin
  bucket.tat := bucket.tat - owed;
  loop
    n := cardinality(bucket.vacancies);
    if n > 0 and bucket.vacancies[n] = bucket.tat then
      bucket.tat := bucket.vacancies[n - 1];
      bucket.vacancies := bucket.vacancies[: n - 2];
      continue;
    end if;
    n := cardinality(bucket.returned);
    if n > 0 and bucket.returned[n] = bucket.tat + bucket.credited then
      bucket.credited := bucket.credited - (bucket.returned[n] - bucket.returned[n - 1]);
      bucket.returned := bucket.returned[: n - 2];
      continue;
    end if;
    return bucket;
  end loop;
end
$$;

-- With another vacancy. If they are too many, without the smallest.
create function headgate.with_vacancy(bucket headgate.bucket, begins numeric, ends numeric) returns headgate.bucket
language plpgsql immutable parallel safe as $$
declare
  vacancies numeric[] := headgate.joined(bucket.vacancies, begins, ends);
  smallest integer := 1;
begin
  if cardinality(vacancies) > 128 then
    for i in 2 .. cardinality(vacancies) / 2 loop
      if vacancies[2 * i] - vacancies[2 * i - 1] < vacancies[2 * smallest] - vacancies[2 * smallest - 1] then
        smallest := i;
      end if;
    end loop;
    vacancies := vacancies[: 2 * smallest - 2] || vacancies[2 * smallest + 1 :];
  end if;
  bucket.vacancies := vacancies;
  return bucket;
end
$$;

-- The bucket that is stored, brought to the rate and to now.
create function headgate.settle(cell headgate.cell, now_us numeric, tolerance numeric, rate numeric)
returns headgate.bucket
language plpgsql immutable parallel safe as $$
declare
  bucket headgate.bucket;
  known numeric := cell.c;
  count integer;
  ahead numeric;
begin
  bucket := row(now_us * rate, rate, 0, 0, 0, '{}', '{}', false);
  if cell.a is null then
    return bucket;
  end if;
  bucket.tat := cell.a * known + cell.b;
  if cell.notes is not null then
    count := cell.notes[5];
    bucket.credited := cell.notes[2];
    bucket.kept_until_us := cell.notes[3];
    bucket.waiting_until_us := cell.notes[4];
    bucket.vacancies := cell.notes[6 : 5 + 2 * count];
    bucket.returned := cell.notes[6 + 2 * count :];
  end if;
  if known <> rate then
    bucket.tat := headgate.ceil_div(bucket.tat, known) * rate;
    bucket.credited := headgate.ceil_div(bucket.credited, known) * rate;
    bucket.vacancies := headgate.within(bucket.vacancies, known, rate);
    bucket.returned := headgate.within(bucket.returned, known, rate);
  end if;
  if cell.notes is null then
    ahead := bucket.tat - now_us * rate - tolerance;
  else
    ahead := (cell.notes[1] - now_us) * rate;
  end if;
  if ahead > 0 then
    bucket := headgate.set_back(bucket, ahead);
    bucket.is_mended := true;
  end if;
  if ahead > 0 or cell.notes is not null then
    bucket := headgate.pass_time(bucket, now_us);
  end if;
  return bucket;
end
$$;

-- The state as it is kept, with the first instant at which it says nothing any more.
create function headgate.written(
  cell headgate.cell, bucket headgate.bucket, now_us numeric, tolerance numeric
) returns headgate.cell
language plpgsql immutable parallel safe as $$
declare
  now numeric := now_us * bucket.rate;
  kept_until_us numeric := case when bucket.credited > 0 then bucket.kept_until_us else 0 end;
begin
  if bucket.tat <= now and kept_until_us <= now_us then
    return headgate.emptied(cell);
  end if;
  cell.is_changed := true;
  cell.a := headgate.floor_div(bucket.tat, bucket.rate);
  cell.b := bucket.tat - cell.a * bucket.rate;
  cell.c := bucket.rate;
  cell.until_us := greatest(headgate.ceil_div(bucket.tat, bucket.rate), kept_until_us);
  if bucket.credited = 0 and bucket.waiting_until_us = 0 and bucket.tat <= now + tolerance then
    cell.notes := null;
  else
    cell.notes := array[
      now_us, bucket.credited, kept_until_us, bucket.waiting_until_us, cardinality(bucket.vacancies) / 2
    ] || bucket.vacancies || bucket.returned;
  end if;
  return cell;
end
$$;
