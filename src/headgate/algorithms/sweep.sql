-- Removes what says nothing any more, a small bite at a time: of some pages of the table, beginning at any, the rows that
-- nobody has locked. Done by the calls that made new rows, for each eighth of these a page. So as many are removed as are
-- made once there are eight on a page, and a call that makes none does not look.
create function headgate.sweep(now bigint, made integer) returns void
language plpgsql volatile set enable_seqscan = off as $$
declare
  blocks integer := floor(made / 8.0 + random());
  pages bigint := pg_relation_size('headgate.state') / current_setting('block_size')::integer;
  first bigint := floor(random() * pages);
begin
  if blocks = 0 then
    return;
  end if;
  delete from headgate.state where ctid = any (array(
    select s.ctid from headgate.state as s
    where s.ctid >= format('(%s,0)', first)::tid and s.ctid < format('(%s,0)', first + blocks)::tid
      and s.until_us <= now and s.is_manual is null
    for update skip locked
  ));
end
$$;
