-- How functions pass states on, and the time.

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
