-- The token bucket as GCRA with an exact remainder: see token_bucket.py, whose steps these are. Here is the plain bucket,
-- to which nothing was given back and for which nobody waits. Times are pairs of `bigint`: q whole microseconds and r parts
-- of 1/rate microsecond. All else is done in token_bucket_notes.sql.
-- Stored as a = q, b = r, c = rate, of the `tat`.
-- Words: increment_q, increment_r, tolerance_q, tolerance_r, rate. Facts: debt_q, debt_r, wait.
create function headgate.token_bucket(
  cell headgate.cell, now bigint, action text, max_wait bigint, words bigint[], at integer
) returns headgate.cell
language plpgsql immutable parallel safe as $$
declare
  increment_q bigint := words[at + 1];
  increment_r bigint := words[at + 2];
  tolerance_q bigint := words[at + 3];
  tolerance_r bigint := words[at + 4];
  rate bigint := words[at + 5];
  q bigint := now;
  r bigint := 0;
  new_q bigint;
  new_r bigint;
  wait bigint := 0;
begin
  if cell.notes is not null or action = 'give_back' or action = 'take' then
    return headgate.token_bucket_noted(cell, now, action, max_wait, words, at);
  end if;
  if cell.a is not null then
    q := cell.a;
    r := cell.b;
    if cell.c <> rate then -- other parts: round to whole microseconds, against the caller
      if r > 0 then
        q := q + 1;
      end if;
      r := 0;
    end if;
    if q - now > tolerance_q or (q - now = tolerance_q and r > tolerance_r) then -- the clock stepped back
      return headgate.token_bucket_noted(cell, now, action, max_wait, words, at);
    end if;
    if q < now then
      q := now;
      r := 0;
    end if;
  end if;
  new_q := q + increment_q;
  new_r := r + increment_r;
  if new_r >= rate then
    new_q := new_q + 1;
    new_r := new_r - rate;
  end if;
  if new_q - now > tolerance_q or (new_q - now = tolerance_q and new_r > tolerance_r) then
    wait := new_q - now - tolerance_q;
    if new_r > tolerance_r then
      wait := wait + 1;
    end if;
  end if;
  cell.allowed := wait <= max_wait;
  if action = 'spend' and cell.allowed then
    if wait > 0 then
      return headgate.token_bucket_noted(cell, now, action, max_wait, words, at);
    end if;
    q := new_q;
    r := new_r;
    if q = now and r = 0 then
      cell := headgate.emptied(cell);
    else
      cell.a := q;
      cell.b := r;
      cell.c := rate;
      cell.until_us := case when r > 0 then q + 1 else q end;
      cell.is_changed := true;
    end if;
  end if;
  cell.facts := array[q - now, r, wait];
  return cell;
end
$$;
