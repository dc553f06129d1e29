-- What pgexport.sql installs, and how it upgrades and refuses.
BEGIN;
SELECT no_plan();

SELECT is(pgexport.version(), 2, 'the version is known');
SELECT schema_owner_is('pgexport', 'pgexport_owner');
SELECT is_empty($$
  SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_roles o ON o.oid = p.proowner
  WHERE p.pronamespace = 'pgexport'::regnamespace AND o.rolname <> 'pgexport_owner'$$, 'every function is the owner''s');
SELECT is_empty($$
  SELECT p.oid::regprocedure FROM pg_proc p
  WHERE p.pronamespace = 'pgexport'::regnamespace AND p.proname <> 'export'
    AND NOT coalesce(p.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)$$,
  'every function pins its search_path but export(), which looks names up as its caller does');
SELECT bag_eq($$
  SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'pgexport'::regnamespace AND p.prosecdef$$,
  $$VALUES ('begin_run'), ('finish_run'), ('begin_attempt'), ('finish_attempt'), ('purge'), ('instance')$$, 'only what writes the table, or must say the same to all, has its owner''s rights');
SELECT is_empty($$
  SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
  WHERE p.pronamespace = 'pgexport'::regnamespace AND a.grantee = 0$$, 'no function is open to everybody');
SELECT is_empty($$
  SELECT p.oid::regprocedure FROM pg_proc p
  WHERE p.pronamespace = 'pgexport'::regnamespace AND NOT has_function_privilege('pgexport_worker', p.oid, 'EXECUTE')$$,
  'a worker may call every function');
SELECT bag_eq($$
  SELECT p.proname::text FROM pg_proc p
  WHERE p.pronamespace = 'pgexport'::regnamespace AND has_function_privilege('pgexport_reader', p.oid, 'EXECUTE')$$,
  $$VALUES ('version'), ('instance'), ('this_backend'), ('extension'), ('status'), ('progress'), ('attempts'), ('orphans'), ('cancel'),
    ('backend_state'), ('cancel_backend')$$,
  'a reader may look, and cancel what it may signal anyway');
SELECT table_privs_are('pgexport', 'run', 'pgexport_worker', ARRAY['SELECT']);
SELECT table_privs_are('pgexport', 'run', 'pgexport_reader', ARRAY['SELECT']);
SELECT table_privs_are('pgexport', 'run', 'public', ARRAY[]::text[]);
SELECT table_privs_are('pgexport', 'attempt', 'pgexport_worker', ARRAY['SELECT']);
SELECT table_privs_are('pgexport', 'attempt', 'pgexport_reader', ARRAY['SELECT']);
SELECT table_privs_are('pgexport', 'attempt', 'public', ARRAY[]::text[]);
SELECT is_empty($$
  SELECT p.oid::regprocedure FROM pg_proc p
  WHERE p.pronamespace = 'pgexport'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL$$, 'every function says what it is for');

SELECT * FROM finish();
ROLLBACK;
