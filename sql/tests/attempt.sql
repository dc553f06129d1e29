-- What the table of attempts takes and shows, and to whom.
BEGIN;
SELECT no_plan();
CREATE ROLE tenant_a LOGIN IN ROLE pgexport_worker;
CREATE ROLE tenant_b LOGIN IN ROLE pgexport_worker;
CREATE ROLE looker LOGIN IN ROLE pgexport_reader;
CREATE FUNCTION pg_temp.run(attempt integer, chunk integer, state text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  outcome pgexport.outcome;
BEGIN
  outcome.state := state;
  outcome.rows_uploaded := 10;
  outcome.files_uploaded := 1;
  outcome.bytes_uploaded := 100;
  RETURN pgexport.finish_run(pgexport.begin_run('job-1', attempt, 'findings', chunk, repeat('0f', 32), 'bucket', attempt || '/' || chunk,
    chunks => 3), outcome);
END
$$;

SET LOCAL SESSION AUTHORIZATION tenant_a;
SELECT lives_ok($$SELECT pgexport.begin_attempt('job-1', 1, 'team/nightly')$$, 'an attempt begins');
SELECT results_eq($$SELECT job, attempt, state, finished_at IS NULL, elapsed >= '0', chunks, succeeded, login = 'tenant_a', standby FROM pgexport.attempts('job-1')$$,
  $$VALUES ('team/nightly', 1, 'running', true, true, NULL::integer, 0::bigint, true, false)$$, 'and is seen before it has exported anything');
SELECT is((SELECT a.instance FROM pgexport.attempts('job-1') a), pgexport.instance(), 'with its instance');
SELECT ok(pg_temp.run(1, 0, 'succeeded'));
SELECT ok(pg_temp.run(1, 1, 'failed'));
SELECT is(pgexport.finish_attempt('job-1', 1, 'failed', 'QueryCancelled', '40001', 'a conflict', 1), 1::bigint, 'it fails');
SELECT is(pgexport.finish_attempt('job-1', 1, 'interrupted'), 0::bigint, 'once: what stopped the others of its workers is no outcome');
SELECT results_eq($$SELECT state, finished_at >= started_at, chunks, succeeded, failed, rows_uploaded, bytes, reason, sqlstate, message, chunk FROM pgexport.attempts('job-1')$$,
  $$VALUES ('failed', true, 3, 1::bigint, 1::bigint, 20::numeric, 200::numeric, 'QueryCancelled', '40001', 'a conflict', 1)$$,
  'which is told with the reason, and with what became of its chunks');

SELECT lives_ok($$SELECT pgexport.begin_attempt('job-1', 2, 'team/nightly')$$, 'another one begins, and its worker dies');
SELECT lives_ok($$SELECT pgexport.begin_attempt('job-1', 2, 'team/nightly')$$, 'which is started anew');
SELECT results_eq($$SELECT attempt, state FROM pgexport.attempts('job-1')$$, $$VALUES (1, 'failed'), (2, 'running')$$, 'and goes on with it');
SELECT is(pgexport.finish_attempt('job-1', 2, 'failed', 'WorkerLost'), 1::bigint);
SELECT is(pgexport.finish_attempt('job-1', 2, 'exported'), 1::bigint);
SELECT results_eq($$SELECT state, reason FROM pgexport.attempts('job-1') WHERE attempt = 2$$, $$VALUES ('exported', NULL::text)$$,
  'all chunks are exported, though one of several workers said that it failed');
SELECT lives_ok($$SELECT pgexport.begin_attempt('job-1', 2, 'team/nightly')$$);
SELECT lives_ok($$SELECT pgexport.begin_attempt('job-1', 3, 'team/nightly')$$);
SELECT results_eq($$SELECT attempt, state, message IS NOT NULL FROM pgexport.attempts('job-1')$$,
  $$VALUES (1, 'failed', true), (2, 'lost', true), (3, 'running', false)$$, 'what has left no outcome is lost when the next one comes');
SELECT lives_ok($$SELECT pgexport.begin_attempt('job-2', 1, 'team/other')$$);
SELECT is(pgexport.finish_attempt('job-1', NULL, 'lost'), 1::bigint, 'or when the cleanup does');
SELECT is((SELECT a.state FROM pgexport.attempts('job-2') a), 'running', 'of its own job');
SELECT throws_ok($$SELECT pgexport.finish_attempt('job-2', 1, 'well')$$, '23514', NULL, 'states are known');
SELECT throws_ok($$UPDATE pgexport.attempt SET state = 'lost'$$, '42501', NULL, 'a worker writes through functions only');

SET LOCAL SESSION AUTHORIZATION tenant_b;
SELECT is_empty($$SELECT * FROM pgexport.attempts()$$, 'another login sees none of them');
SELECT is(pgexport.finish_attempt('job-2', 1, 'failed'), 0::bigint, 'nor ends them');
SELECT lives_ok($$SELECT pgexport.begin_attempt('job-2', 1, 'mine')$$);
SELECT lives_ok($$SELECT pgexport.begin_attempt('job-2', 2, 'mine')$$);

SET LOCAL SESSION AUTHORIZATION looker;
SELECT results_eq($$SELECT job, attempt, state FROM pgexport.attempts('job-2')$$, $$VALUES ('team/other', 1, 'running'), ('mine', 2, 'running')$$,
  'nor takes them over, nor loses them; a reader sees all');
SELECT throws_ok($$SELECT pgexport.begin_attempt('job-9', 1, 'x')$$, '42501', NULL, 'and begins nothing');

SET LOCAL SESSION AUTHORIZATION tenant_a;
SELECT is(pgexport.purge('1 hour'), 0::bigint, 'what ended of late stays');
SELECT is((SELECT count(*) FROM pgexport.attempts('job-1')), 3::bigint, 'also of attempts');
SELECT is(pgexport.purge('-1 hour'), 2::bigint, 'what ended before goes');
SELECT results_eq($$SELECT job_uid, attempt FROM pgexport.attempts()$$, $$VALUES ('job-2', 1)$$, 'with its attempts, but not those that run');

SELECT * FROM finish();
ROLLBACK;
