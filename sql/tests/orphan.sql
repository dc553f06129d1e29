-- What is known of a run's backend. A row may name any backend, so one session is enough.
BEGIN;
SELECT no_plan();
CREATE ROLE worker LOGIN IN ROLE pgexport_worker;

WITH here AS MATERIALIZED (SELECT (pgexport.this_backend()).*)
SELECT pgexport.begin_run('job', 1, 'findings', n, repeat('0f', 32), 'bucket', n::text, backend => ROW(
    CASE n WHEN 4 THEN instance || '0' ELSE instance END,
    server_address, server_port, standby,
    CASE n WHEN 3 THEN 2147483647 ELSE pid END,
    CASE n WHEN 2 THEN backend_start - interval '1 microsecond' WHEN 5 THEN NULL ELSE backend_start END,
    CASE n WHEN 1 THEN 'another name' ELSE application_name END)) IS NOT NULL
FROM here, generate_series(0, 5) n;

SELECT results_eq($$SELECT chunk, backend FROM pgexport.orphans('job')$$,
  $$VALUES (0, 'active'), (1, 'idle'), (2, 'gone'), (3, 'gone'), (4, 'elsewhere'), (5, 'hidden')$$,
  'a backend is known by instance, pid, start and application');
SELECT results_eq($$SELECT chunk, backend FROM pgexport.status('job')$$, $$SELECT chunk, backend FROM pgexport.orphans('job')$$,
  'status() says the same');
SELECT is_empty($$SELECT * FROM pgexport.orphans('another job')$$, 'another job has none');
-- This very session would cancel itself.
SELECT pgexport.abandon(r.run_id, 'not run by this test') FROM pgexport.run r WHERE r.chunk = 0;
SELECT results_eq($$SELECT result FROM pgexport.cancel('job') WHERE run IN (SELECT r.run_id FROM pgexport.run r WHERE r.chunk BETWEEN 1 AND 5)$$,
  $$VALUES ('idle'), ('gone'), ('gone'), ('elsewhere'), ('hidden')$$, 'cancel() leaves alone what is not surely this run''s');
SELECT is((SELECT array_agg(r.chunk ORDER BY r.chunk) FROM pgexport.mark_lost('job') m JOIN pgexport.run r ON r.run_id = m), ARRAY[2, 3],
  'only what is surely gone is marked as lost');
SELECT results_eq($$SELECT chunk, state FROM pgexport.status('job') WHERE state <> 'running'$$,
  $$VALUES (0, 'lost'), (2, 'lost'), (3, 'lost')$$, 'and the table says so');
SELECT matches(r.message, '^The backend 2147483647 of .* is gone', 'with the reason') FROM pgexport.run r WHERE r.chunk = 3;
SELECT is_empty($$SELECT pgexport.mark_lost('job')$$, 'once');
SELECT ok(pgexport.abandon(r.run_id, 'The standby was deleted.'), 'a person may know better of a backend elsewhere')
  FROM pgexport.run r WHERE r.chunk = 4;
SELECT results_eq($$SELECT state, message FROM pgexport.status('job') WHERE chunk = 4$$, $$VALUES ('lost', 'The standby was deleted.')$$,
  'which the table remembers');

-- The session is the superuser's, whose activity a worker does not see.
GRANT SELECT ON pgexport.run TO worker;
CREATE POLICY for_this_test ON pgexport.run TO worker USING (true);
SELECT pgexport.begin_run('job', 2, 'findings', 0, repeat('0f', 32), 'bucket', 'x') IS NOT NULL;
SET LOCAL ROLE worker;
SELECT results_eq($$SELECT backend FROM pgexport.orphans('job') WHERE attempt = 2$$, $$VALUES ('hidden')$$,
  'what the caller may not see of a backend is not taken for gone');
SELECT is((pgexport.this_backend()).backend_start, NULL, 'nor is its own login''s seen after SET ROLE');
SELECT is((pgexport.this_backend()).pid, pg_backend_pid(), 'but its number');
RESET ROLE;

SELECT matches(pgexport.instance(), '^\d+/\d+$', 'an instance is known by its identifier and its start');
REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC;
SELECT matches(pgexport.instance(), '^unknown/\d+$', 'where the identifier is kept secret by its start, to a superuser too');

SELECT * FROM finish();
ROLLBACK;
