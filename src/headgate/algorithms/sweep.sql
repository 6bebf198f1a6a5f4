-- Removes what says nothing any more, a small bite at a time: of so many pages of the table, beginning at any, the rows that
-- nobody has locked. Done by the calls themselves, each now and then; so the more is written, the more is removed.
create function headgate.sweep(now bigint, blocks integer) returns void
language plpgsql volatile set enable_seqscan = off as $$
declare
  pages bigint := pg_relation_size('headgate.state') / current_setting('block_size')::integer;
  first bigint := floor(random() * pages);
begin
  delete from headgate.state where ctid = any (array(
    select s.ctid from headgate.state as s
    where s.ctid >= format('(%s,0)', first)::tid and s.ctid < format('(%s,0)', first + blocks)::tid
      and s.until_us <= now and s.is_manual is null
    for update skip locked
  ));
end
$$;
