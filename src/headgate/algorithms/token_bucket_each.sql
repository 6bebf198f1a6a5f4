-- Many hits on token buckets, the commonest batch: what token_bucket.sql does, for all of them at once. Each place comes
-- once, in order, with how many hits there are on it, which are alike. What is not plain has the whole batch decided the
-- general way.
-- Answers: now, and for each place, before its hits, the debt_q and the debt_r, and how many of the hits are allowed; or -1,
-- and then as `decide`, for one group a hit.
create function headgate.token_bucket_each(
  lock_ms integer, places bytea[], hits bigint[], costs_q bigint[], costs_r bigint[], mosts_q bigint[], mosts_r bigint[],
  rates bigint[]
) returns bigint[]
language plpgsql volatile set enable_seqscan = off as $$
declare
  made integer;
  now bigint;
  qs bigint[];
  rs bigint[];
  spent bigint[];
begin
  made := headgate.lock_rows(lock_ms, places);
  now := headgate.clock();
  select
    array_agg(case when s.a >= now then s.a else now end order by w.number),
    array_agg(case when s.a >= now then s.b else 0 end order by w.number),
    array_agg(
      case
        when s.notes is not null or (s.a >= now and s.c <> w.rate) then null
        when s.a > now + w.most_q or (s.a = now + w.most_q and s.b > w.most_r) then null -- the clock stepped back
        else least(
          w.hits,
          (
            (w.most_q - case when s.a >= now then s.a - now else 0 end) * w.rate
            + w.most_r - case when s.a >= now then s.b else 0 end
          ) / (w.cost_q * w.rate + w.cost_r)
        )
      end order by w.number
    )
  into qs, rs, spent
  from unnest(places, hits, costs_q, costs_r, mosts_q, mosts_r, rates) with ordinality
    as w (place, hits, cost_q, cost_r, most_q, most_r, rate, number)
  cross join lateral (select * from headgate.state where state.place = w.place offset 0) as s;
  if array_position(spent, null) is not null then
    return -1 || headgate.decide(lock_ms, null, cardinality(places), places, (
      select array_agg(word order by w.number, hit, at)
      from unnest(hits, costs_q, costs_r, mosts_q, mosts_r, rates) with ordinality
        as w (hits, cost_q, cost_r, most_q, most_r, rate, number)
      cross join generate_series(1, w.hits) as hit
      cross join lateral unnest(
        array[1, 0, 1, 0, 0, 8, w.number, 1, 5, w.cost_q, w.cost_r, w.most_q, w.most_r, w.rate]
      ) with ordinality as one (word, at)
    ), '{}');
  end if;
  insert into headgate.state as known (place, until_us, a, b, c)
  select
    w.place, w.q + w.spent * w.cost_q + (w.r + w.spent * w.cost_r + w.rate - 1) / w.rate,
    w.q + w.spent * w.cost_q + (w.r + w.spent * w.cost_r) / w.rate, (w.r + w.spent * w.cost_r) % w.rate, w.rate
  from unnest(places, qs, rs, spent, costs_q, costs_r, rates) as w (place, q, r, spent, cost_q, cost_r, rate)
  where w.spent > 0
  on conflict (place) do update set
    until_us = excluded.until_us, a = excluded.a, b = excluded.b, c = excluded.c, is_manual = null;
  if made > 0 then
    perform headgate.sweep(now, made);
  end if;
  return array[now] || array(
    select word from unnest(qs, rs, spent) with ordinality as w (q, r, spent, number)
    cross join lateral unnest(array[w.q - now, w.r, w.spent]) with ordinality as one (word, at)
    order by w.number, one.at
  );
end
$$;
