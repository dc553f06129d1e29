-- The table of runs: who may write and see what, and what is refused.
BEGIN;
SELECT no_plan();
CREATE ROLE tenant_a LOGIN IN ROLE pgexport_worker, pg_read_all_stats; -- the session stays the superuser's, which a tenant does not see
CREATE ROLE tenant_b LOGIN IN ROLE pgexport_worker;
CREATE ROLE looker LOGIN IN ROLE pgexport_reader;
CREATE ROLE stranger LOGIN;
CREATE FUNCTION pg_temp.hash() RETURNS text LANGUAGE sql AS $$ SELECT repeat('0f', 32) $$;
CREATE FUNCTION pg_temp.ended(state text, message text DEFAULT NULL) RETURNS pgexport.outcome LANGUAGE sql AS $$
  SELECT (state, now(), clock_timestamp(), 5, 1, 50, NULL, message, NULL, NULL, NULL)::pgexport.outcome $$;

SET LOCAL SESSION AUTHORIZATION tenant_a;
SELECT is(pgexport.begin_run('job-1', 1, 'findings', 0, pg_temp.hash(), 'bucket', 'a/0', chunks => 2, run_id => 1000), 1000::bigint,
  'a run may bring the number that prepare_run() gave it');
SELECT isnt(pgexport.begin_run('job-1', 1, 'findings', 1, pg_temp.hash(), 'bucket', 'a/1', chunks => 2), NULL, 'and gets one otherwise');
SELECT results_eq(
  $$SELECT r.state, r.login, r.pid, r.standby, r.instance = pgexport.instance(), r.finished_at FROM pgexport.run r ORDER BY r.chunk LIMIT 1$$,
  $$VALUES ('running', 'tenant_a'::name, pg_backend_pid(), false, true, NULL::timestamptz)$$, 'the row tells who runs it and where');
SELECT is((SELECT r.backend_start FROM pgexport.run r WHERE r.run_id = 1000),
  (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()), 'and since when its backend is there');

SELECT throws_matching($$SELECT pgexport.begin_run('job-1', 1, 'findings', 0, pg_temp.hash(), 'bucket', 'b')$$,
  'run 1000 of job job-1, attempt 1, chunk 0 is running', 'a chunk is exported once in an attempt');
SELECT throws_matching($$SELECT pgexport.begin_run('job-2', 1, 'findings', 0, pg_temp.hash(), 'bucket', 'a/0')$$,
  'writes s3://bucket/a/0', 'an object is written by one run at a time');
SELECT lives_ok($$SELECT pgexport.begin_run('job-1', 2, 'findings', 0, pg_temp.hash(), 'bucket', 'a2/0')$$, 'the next attempt exports it anew');
SELECT throws_ok($$SELECT pgexport.begin_run('job-1', 3, 'findings', 0, 'select 1', 'bucket', 'c')$$, '23514', NULL, 'a query is no hash');

SELECT ok(pgexport.finish_run(1000, pg_temp.ended('succeeded')), 'a run ends');
SELECT ok(NOT pgexport.finish_run(1000, pg_temp.ended('failed')), 'once');
SELECT is((SELECT r.state FROM pgexport.run r WHERE r.run_id = 1000), 'succeeded', 'and its first outcome stays');
SELECT throws_matching($$SELECT pgexport.begin_run('job-1', 1, 'findings', 0, pg_temp.hash(), 'bucket', 'b')$$,
  'is succeeded', 'a chunk that is there is not exported again');
SELECT throws_ok($$SELECT pgexport.finish_run(999999, pg_temp.ended('failed'))$$, 'P0002', NULL, 'a run that never was cannot end');
SELECT lives_ok($$
  SELECT pgexport.finish_run(r.run_id, pg_temp.ended('failed', 'boom')) FROM pgexport.run r WHERE r.job_uid = 'job-1' AND r.attempt = 1 AND r.chunk = 1$$,
  'a run fails');
SELECT lives_ok($$SELECT pgexport.begin_run('job-1', 1, 'findings', 1, pg_temp.hash(), 'bucket', 'a/1')$$, 'and is tried again');
SELECT results_eq($$SELECT attempt, chunks, succeeded, running, failed, rows_uploaded, last_message FROM pgexport.progress('job-1')$$,
  $$VALUES (1, 2, 1::bigint, 1::bigint, 1::bigint, 10::numeric, 'boom'), (2, NULL, 0, 1, 0, NULL, NULL)$$, 'progress() counts');
SELECT throws_ok($$INSERT INTO pgexport.run (run_id) VALUES (1)$$, '42501', NULL, 'a worker writes through functions only');
SELECT throws_ok($$UPDATE pgexport.run SET state = 'lost'$$, '42501', NULL, 'also what is its own');
SELECT throws_ok($$DELETE FROM pgexport.run$$, '42501', NULL, 'and deletes nothing directly');

SET LOCAL SESSION AUTHORIZATION tenant_b;
SELECT is_empty($$SELECT FROM pgexport.run$$, 'a worker does not see another login''s runs');
SELECT is_empty($$SELECT * FROM pgexport.status()$$, 'nor their status');
SELECT throws_ok($$SELECT pgexport.finish_run(1000, pg_temp.ended('failed'))$$, 'P0002', NULL, 'nor ends them');
SELECT is(pgexport.purge('-1 hour'), 0::bigint, 'nor purges them');

SET LOCAL SESSION AUTHORIZATION looker;
SELECT is((SELECT count(*) FROM pgexport.status('job-1')), 4::bigint, 'a reader sees all');
SELECT throws_ok($$SELECT pgexport.begin_run('job-1', 9, 'findings', 0, pg_temp.hash(), 'bucket', 'x')$$, '42501', NULL, 'and begins nothing');
SELECT throws_ok($$SELECT pgexport.purge('0')$$, '42501', NULL, 'and purges nothing');

SET LOCAL SESSION AUTHORIZATION stranger;
SELECT throws_ok($$SELECT pgexport.version()$$, '42501', NULL, 'others see nothing');

SET LOCAL SESSION AUTHORIZATION tenant_a;
SELECT is(pgexport.purge('1 hour'), 0::bigint, 'what ended of late stays');
SELECT is(pgexport.purge('-1 hour'), 2::bigint, 'what ended before goes');
SELECT is((SELECT count(*) FROM pgexport.run r WHERE r.state = 'running'), 2::bigint, 'what runs stays');

RESET SESSION AUTHORIZATION;
SELECT lives_ok($$SELECT pgexport.finish_run(r.run_id, pg_temp.ended('cancelled')) FROM pgexport.run r WHERE r.attempt = 2$$,
  'an owner ends anybody''s run');
SELECT is(pgexport.purge('-1 hour'), 1::bigint, 'and purges anybody''s');

SELECT * FROM finish();
ROLLBACK;
