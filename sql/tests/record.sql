-- What the engine relies on where it makes Parquet: the form of record_send (operator/engine/src/encode/record.rs), and that anybody may
-- call it.
BEGIN;
SELECT no_plan();
CREATE ROLE worker LOGIN IN ROLE pgexport_worker;
SELECT ok(pg_catalog.has_function_privilege('worker', 'pg_catalog.record_send(record)', 'EXECUTE'), 'a worker may call it');
SELECT is(pg_catalog.encode(pg_catalog.record_send(ROW(1, NULL::text, q.c1)), 'hex'),
  '00000003' || '00000017' || '00000004' || '00000001' || '00000019' || 'ffffffff' || '00000019' || '00000002' || '6162',
  'columns, and of each its type, its length (-1 for NULL) and its bytes') FROM (SELECT 'ab') q (c1);
SELECT is(pg_catalog.encode(pg_catalog.record_send(ROW()), 'hex'), '00000000', 'a row without columns');
SELECT is(pg_catalog.encode(pg_catalog.record_send(ROW(pg_catalog.repeat('x', 60))), 'base64'),
  'AAAAAQAAABkAAAA8' || pg_catalog.repeat('eHh4', 15) || E'\n' || pg_catalog.repeat('eHh4', 5),
  'base64 in lines of 76 characters');
SELECT * FROM finish();
ROLLBACK;
