-- The commonest call's fast path: one hit on a token bucket, to spend now. What token_bucket.sql does, in a third of the
-- time that the general way takes. What is not plain goes on there.
-- Answers as `token_bucket_each`.
create function headgate.token_bucket_single(
  lock_ms integer, wanted bytea, cost_q bigint, cost_r bigint, most_q bigint, most_r bigint, rate bigint
) returns bigint[]
language plpgsql volatile set enable_seqscan = off as $$
declare
  known headgate.state;
  now bigint;
  q bigint;
  r bigint;
  new_q bigint;
  new_r bigint;
  spent integer := 0;
  made integer := 0;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform headgate.refuse_isolation();
  end if;
  perform set_config('lock_timeout', lock_ms::text, true);
  loop
    select * into known from headgate.state as s where s.place = wanted for update;
    exit when found;
    insert into headgate.state (place, until_us) values (wanted, 0) on conflict do nothing;
    get diagnostics made = row_count;
    exit when made > 0;
  end loop;
  now := headgate.clock();
  if known.notes is not null or (known.a >= now and known.c <> rate)
    or known.a > now + most_q or (known.a = now + most_q and known.b > most_r)
  then
    return -1 || headgate.decide(
      lock_ms, null, 1, array[wanted], array[1, 0, 1, 0, 0, 8, 1, 1, 5, cost_q, cost_r, most_q, most_r, rate], '{}'
    );
  end if;
  if known.a >= now then
    q := known.a;
    r := known.b;
  else
    q := now;
    r := 0;
  end if;
  new_q := q + cost_q;
  new_r := r + cost_r;
  if new_r >= rate then
    new_q := new_q + 1;
    new_r := new_r - rate;
  end if;
  if new_q - now < most_q or (new_q - now = most_q and new_r <= most_r) then
    spent := 1;
    update headgate.state as s set
      until_us = case when new_r > 0 then new_q + 1 else new_q end, a = new_q, b = new_r, c = rate, is_manual = null
    where s.place = wanted;
  end if;
  if made > 0 then
    perform headgate.sweep(now, made);
  end if;
  return array[now, q, r, spent];
end
$$;
