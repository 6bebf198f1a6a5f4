-- Where states are kept.
--
-- A row is the state of one limit for one key. Its integers are `a`, `b` and `c`, as the algorithm's file says; the rest is
-- there for those that need it. A row whose `until_us` is over says nothing, and may be removed.
-- No index but that of the primary key, and half of each page left free: so an update of a row stays on its page, and
-- the room of what it replaced is soon used again.
create table headgate.state (
  place bytea primary key,
  until_us bigint not null,
  a bigint,
  b bigint,
  c bigint,
  numbers bigint[],
  notes numeric[],
  names text[],
  is_manual boolean -- true: decided by a clock of a test's, by which nothing is removed
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
