-- Where states are kept, and how functions pass them on.
--
-- A row is the state of one limit for one key. Its integers are `a`, `b` and `c`, as the algorithm's file says; the rest is
-- there for those that need it. A row whose `until_us` is over says nothing, and may be removed.
-- No index but that of the primary key: so an update of a row stays on its page, and what it leaves is soon used again.
create table if not exists headgate.state (
  place bytea primary key,
  until_us bigint not null,
  a bigint,
  b bigint,
  c bigint,
  numbers bigint[],
  notes numeric[],
  names text[],
  is_manual boolean -- true: decided by a clock of a test's, by which nothing is removed
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- A state among those of a batch, and what is told of it: whether the hit is allowed (null: its table of windows does not
-- cover now), and its facts.
create type headgate.cell as (
  place bytea,
  until_us bigint,
  a bigint,
  b bigint,
  c bigint,
  numbers bigint[],
  notes numeric[],
  names text[],
  is_changed boolean,
  allowed boolean,
  facts bigint[]
);

-- Microseconds since the epoch. Exact: `extract` answers a numeric.
create function headgate.clock() returns bigint language sql volatile parallel safe as $$
  select (extract(epoch from clock_timestamp()) * 1000000)::bigint
$$;

-- Nothing is owed any more.
create function headgate.emptied(cell headgate.cell) returns headgate.cell
language plpgsql immutable parallel safe as $$
begin
  if cell.until_us <> 0 then
    cell.is_changed := true;
  end if;
  cell.until_us := 0;
  cell.a := null;
  cell.b := null;
  cell.c := null;
  cell.numbers := null;
  cell.notes := null;
  cell.names := null;
  return cell;
end
$$;
