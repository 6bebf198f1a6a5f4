-- Many hits on token buckets, the commonest batch: what token_bucket.sql does, for all of them at once. Each place comes
-- once, in order, with how many hits there are on it, which are alike. What is not plain has the whole batch decided the
-- general way.
-- The arguments come once for each place, or once for all.
-- Answers: now, and for all places, before their hits, the q of the `tat`; then the r; and then how many of the hits are
-- allowed. Or -1, and then as `decide`, for one group a hit.
create function headgate.token_bucket_each(
  lock_ms integer, places bytea[], hits bigint[], costs_q bigint[], costs_r bigint[], mosts_q bigint[], mosts_r bigint[],
  rates bigint[]
) returns bigint[]
language plpgsql volatile set enable_seqscan = off as $$
declare
  size integer := cardinality(places);
  made integer;
  now bigint;
  qs bigint[];
  rs bigint[];
  spent bigint[];
begin
  if cardinality(rates) < size then
    costs_q := array_fill(costs_q[1], array[size]);
    costs_r := array_fill(costs_r[1], array[size]);
    mosts_q := array_fill(mosts_q[1], array[size]);
    mosts_r := array_fill(mosts_r[1], array[size]);
    rates := array_fill(rates[1], array[size]);
  end if;
  made := headgate.lock_rows(lock_ms, places);
  now := headgate.clock();
  select array_agg(found.q), array_agg(found.r), array_agg(found.spent)
  into qs, rs, spent
  from (
    select
      case when s.a >= now then s.a else now end as q,
      case when s.a >= now then s.b else 0 end as r,
      case
        when s.notes is not null or (s.a >= now and s.c <> w.rate) then null
        when s.a > now + w.most_q or (s.a = now + w.most_q and s.b > w.most_r) then null -- the clock stepped back
        when s.a >= now then least(
          w.hits, ((now + w.most_q - s.a) * w.rate + w.most_r - s.b) / (w.cost_q * w.rate + w.cost_r)
        )
        else least(w.hits, (w.most_q * w.rate + w.most_r) / (w.cost_q * w.rate + w.cost_r))
      end as spent
    from unnest(places, hits, costs_q, costs_r, mosts_q, mosts_r, rates) with ordinality
      as w (place, hits, cost_q, cost_r, most_q, most_r, rate, number)
    cross join lateral (select * from headgate.state where state.place = w.place offset 0) as s
    order by w.number
  ) as found;
  if array_position(spent, null) is not null then
    return -1 || headgate.decide(lock_ms, null, size, places, (
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
  return now || qs || rs || spent;
end
$$;
