-- What is found of the extension. These functions have AWS's signatures and do nothing.
BEGIN;
SELECT no_plan();
CREATE ROLE worker LOGIN IN ROLE pgexport_worker;

SELECT results_eq($$SELECT installed, kms_key, allowed, advice LIKE '%CREATE EXTENSION aws_s3 CASCADE%' FROM pgexport.extension()$$,
  $$VALUES (false, false, false, true)$$, 'no extension');
SELECT throws_ok($$SELECT pgexport.export_call(true, true, false)$$, 'PX002', NULL, 'which is an error of its own');

CREATE SCHEMA aws_commons;
CREATE TYPE aws_commons._s3_uri_1 AS (bucket text, file_path text, region text);
CREATE SCHEMA aws_s3;
CREATE FUNCTION aws_s3.query_export_to_s3(query text, s3_info aws_commons._s3_uri_1, options text DEFAULT NULL, kms_key text DEFAULT NULL,
  OUT rows_uploaded bigint, OUT files_uploaded bigint, OUT bytes_uploaded bigint) LANGUAGE sql AS 'SELECT 1::bigint, 1::bigint, 1::bigint';
SELECT results_eq($$SELECT installed FROM pgexport.extension()$$, $$VALUES (false)$$, 'the overload with s3_info alone is not enough');

CREATE FUNCTION aws_s3.query_export_to_s3(query text, bucket text, file_path text, region text DEFAULT NULL, options text DEFAULT NULL,
  OUT rows_uploaded bigint, OUT files_uploaded bigint, OUT bytes_uploaded bigint) LANGUAGE sql AS 'SELECT 1::bigint, 1::bigint, 1::bigint';
SELECT results_eq($$SELECT installed, kms_key, allowed, advice LIKE '%ALTER EXTENSION aws_s3 UPDATE%' FROM pgexport.extension()$$,
  $$VALUES (true, false, true, true)$$, 'an old extension, without kms_key');
SELECT throws_ok($$SELECT pgexport.export_call(true, true, true)$$, 'PX003', NULL, 'which cannot take one');
SELECT unalike(pgexport.export_call(true, true, false), '%kms_key%', 'and is not given one');

DROP FUNCTION aws_s3.query_export_to_s3(text, text, text, text, text);
CREATE FUNCTION aws_s3.query_export_to_s3(query text, bucket text, file_path text, region text DEFAULT NULL, options text DEFAULT NULL,
  kms_key text DEFAULT NULL, OUT rows_uploaded bigint, OUT files_uploaded bigint, OUT bytes_uploaded bigint)
  LANGUAGE sql AS 'SELECT 1::bigint, 1::bigint, 1::bigint';
SELECT results_eq($$SELECT installed, kms_key, allowed, advice FROM pgexport.extension()$$,
  $$VALUES (true, true, true, NULL::text)$$, 'a present one');
SELECT alike(pgexport.export_call(false, false, true), '%kms_key => $6%', 'which is given it');
SELECT unalike(pgexport.export_call(false, false, true), '%region%', 'and nothing that was not said');

SET LOCAL SESSION AUTHORIZATION worker;
SELECT results_eq($$SELECT installed, allowed, advice LIKE 'GRANT USAGE ON SCHEMA aws_s3%TO worker;%' FROM pgexport.extension()$$,
  $$VALUES (true, false, true)$$, 'grants are missing');
SELECT throws_ok($$SELECT pgexport.export_call(true, true, false)$$, '42501', NULL, 'which is an error');
RESET SESSION AUTHORIZATION;

SELECT * FROM finish();
ROLLBACK;
