-- The frame around the algorithms: reads a batch of groups, judges each, spends all of a group or none, and answers.

-- Judges one hit, and does to its state what the action says: `spend` (if it is allowed; if not, a clock that stepped back is
-- written), `peek`, `repair` (as a `spend` that is not allowed), `count`, `give_back`, `take`, `renew`.
create function headgate.judge(
  code bigint, cell headgate.cell, now bigint, action text, max_wait bigint, words bigint[], at integer, holders text[]
) returns headgate.cell
language plpgsql immutable parallel safe as $$
begin
  case code
    when 1 then return headgate.token_bucket(cell, now, action, max_wait, words, at);
    when 2 then return headgate.fixed_window(cell, now, action, max_wait, words, at);
    when 3 then return headgate.sliding_window(cell, now, action, max_wait, words, at);
    when 4 then return headgate.sliding_log(cell, now, action, max_wait, words, at);
    when 5 then return headgate.concurrency(cell, now, action, max_wait, words, at, holders[words[at + 4]]);
    when 6 then return headgate.penalty(cell, now, action, max_wait, words, at);
  end case;
end
$$;

-- Refuses a transaction whose isolation level makes an error of rows that others have written meanwhile. Each function that
-- is called looks at the level itself, and calls this one where it is another: a call takes longer than a look.
create function headgate.refuse_isolation() returns void
language plpgsql as $$
begin
  raise exception 'headgate needs the isolation level READ COMMITTED' using errcode = 'invalid_transaction_state',
    hint = 'alter role ... set default_transaction_isolation = ''read committed''';
end
$$;

-- Locks those of a batch's rows that may be written, in the order in which they come, and makes those that are missing.
-- Answers how many these are.
create function headgate.lock_rows(lock_ms integer, places bytea[]) returns integer
language plpgsql volatile as $$
declare
  made integer;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform headgate.refuse_isolation();
  end if;
  perform set_config('lock_timeout', lock_ms::text, true);
  insert into headgate.state as known (place, until_us)
  select wanted.place, 0 from unnest(places) as wanted (place)
  on conflict (place) do update set until_us = 0 where false;
  get diagnostics made = row_count;
  return made;
end
$$;

-- places: without doubles, the first `locked` of them in order, which are those that may be written.
-- words: for each group: action, max_wait, number of hits, the mark of one that counts once (its place, or 0) and until when
--        that is good (of a `spend`: how long), the number of words that follow; and for each hit its place, its algorithm,
--        the number of words that follow, and these; before them, where tokens are to be left behind it, the same of a hit
--        that would take them, too, with the algorithm's number below 0.
-- A mark is good until `until_us`; of a spend of which a repeat was told, its `a` is 1.
-- Answers: now, then for each group 1 (allowed), 0, or 2 (nothing was done, since the mark was known, or it was too late to
--          know), and for each hit the algorithm's facts; or -1 alone for a group in which a table of windows does not cover
--          now, and of which nothing was written.
create function headgate.decide(
  lock_ms integer, manual_us bigint, locked integer, places bytea[], words bigint[], holders text[]
) returns bigint[]
language plpgsql volatile set enable_seqscan = off as $$
declare
  actions constant text[] := array['spend', 'peek', 'give_back', 'take', 'renew', 'forget', 'undo'];
  made integer;
  now bigint;
  cells headgate.cell[];
  cell headgate.cell;
  answers bigint[];
  answered integer := 1;
  told integer;
  at integer := 0;
  group_at integer;
  end_at integer;
  action text;
  hit_action text;
  max_wait bigint;
  size integer;
  mark integer;
  mark_until bigint;
  judged boolean[];
  judges_first boolean;
  wider headgate.cell;
  asked_at integer[]; -- where the words are by which each hit is judged: its own, or those of the larger one that is denied
  allowed boolean;
  is_denied boolean;
  is_blocked boolean;
begin
  made := headgate.lock_rows(lock_ms, places[1 : locked]);
  select array_agg(
    row(
      w.place, coalesce(s.until_us, 0), s.a, s.b, s.c, s.numbers, s.notes, s.names, false, true, null
    )::headgate.cell order by w.number
  )
  into cells
  from unnest(places) with ordinality as w (place, number)
  left join lateral (select * from headgate.state where state.place = w.place offset 0) as s on true;
  cells[1] := cells[1]; -- from now on, an element is found at once
  now := coalesce(manual_us, headgate.clock());
  answers[1] := now;
  while at < cardinality(words) loop
    action := actions[words[at + 1]];
    max_wait := words[at + 2];
    size := words[at + 3];
    mark := words[at + 4];
    if mark > 0 then
      mark_until := case when action = 'spend' then now + words[at + 5] else words[at + 5] end;
      if action = 'undo' then
        if mark_until <= now or cells[mark].until_us <> mark_until or cells[mark].a is not null then
          action := 'look'; -- a repeat was told of it, or it is gone
        end if;
      elsif mark_until <= now or cells[mark].until_us > now then
        if action = 'spend' and cells[mark].until_us > now and cells[mark].a is null then
          cell := cells[mark];
          cell.a := 1;
          cell.is_changed := true;
          cells[mark] := cell;
        end if;
        action := 'look'; -- it was counted, or it is too late to know
      end if;
    end if;
    group_at := at + 6;
    end_at := group_at + words[at + 6];
    judges_first := action = 'undo' or (action = 'spend' and (size > 1 or words[at + 8] < 0));
    hit_action := case when action = 'forget' or action = 'look' or judges_first then 'peek' else action end;
    at := group_at;
    told := answered + 1;
    allowed := true;
    is_blocked := false;
    for i in 1 .. size loop
      cell := cells[words[at + 1]];
      if action = 'forget' then
        cell := headgate.emptied(cell);
      end if;
      asked_at[i] := at;
      if words[at + 2] < 0 then
        wider := headgate.judge(-words[at + 2], cell, now, 'peek', max_wait, words, at + 3, holders);
        at := at + 3 + words[at + 3];
        if wider.allowed then
          asked_at[i] := at;
        end if;
      end if;
      cell := headgate.judge(words[at + 2], cell, now, hit_action, max_wait, words, at + 3, holders);
      if cell.allowed is null then
        allowed := null;
        exit;
      end if;
      if asked_at[i] < at then
        cell := wider;
      end if;
      cells[words[at + 1]] := cell;
      judged[i] := cell.allowed or action = 'look' or action = 'forget' or action = 'undo';
      allowed := allowed and judged[i];
      is_blocked := is_blocked or (words[at + 2] = 6 and not judged[i]);
      for number in 1 .. cardinality(cell.facts) loop
        told := told + 1;
        answers[told] := cell.facts[number];
      end loop;
      at := at + 3 + words[at + 3];
    end loop;
    if allowed is null then
      answered := answered + 1;
      answers[answered] := -1;
      at := end_at;
      continue;
    end if;
    answers[answered + 1] := case when action = 'look' then 2 else allowed::integer end;
    if judges_first then
      at := group_at;
      told := answered + 1;
      is_denied := false;
      for i in 1 .. size loop
        hit_action := 'repair';
        if words[at + 2] < 0 then
          at := at + 3 + words[at + 3];
        end if;
        if allowed then
          hit_action := case when action = 'undo' then 'give_back' else 'spend' end;
        elsif words[at + 2] <> 6 then
          is_denied := is_denied or not judged[i];
        else -- a penalty counts a denial by the hits before it, back to the penalty before
          if is_denied and not is_blocked then
            hit_action := 'count';
          end if;
          is_denied := false;
        end if;
        cell := headgate.judge(
          words[at + 2], cells[words[at + 1]], now, hit_action, max_wait, words, asked_at[i] + 3, holders
        );
        cells[words[at + 1]] := cell;
        for number in 1 .. cardinality(cell.facts) loop
          told := told + 1;
          answers[told] := cell.facts[number];
        end loop;
        at := at + 3 + words[at + 3];
      end loop;
    end if;
    answered := told;
    if mark > 0 and action <> 'look' and allowed then
      cell := cells[mark];
      cell.until_us := case when action = 'undo' then 0 else mark_until end;
      cell.a := null;
      cell.is_changed := true;
      cells[mark] := cell;
    end if;
  end loop;
  insert into headgate.state as known (place, until_us, a, b, c, numbers, notes, names, is_manual)
  select c.place, c.until_us, c.a, c.b, c.c, c.numbers, c.notes, c.names, case when manual_us is not null then true end
  from unnest(cells) as c
  where c.is_changed
  on conflict (place) do update set
    until_us = excluded.until_us, a = excluded.a, b = excluded.b, c = excluded.c, numbers = excluded.numbers,
    notes = excluded.notes, names = excluded.names, is_manual = excluded.is_manual;
  if made > 0 and manual_us is null then
    perform headgate.sweep(now, made);
  end if;
  return answers[1 : answered];
end
$$;
