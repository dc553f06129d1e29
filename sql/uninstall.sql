-- Removes what pgexport.sql installed from this database: the schema with its table of runs, and the roles unless something else
-- names them (another database with the schema, or grants that somebody made to them).
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $uninstall$
DECLARE
  running bigint;
  unwanted text;
BEGIN
  IF to_regnamespace('pgexport') IS NOT NULL THEN
    SELECT count(*) INTO running FROM pgexport.orphans() WHERE backend <> 'gone';
    IF running > 0 THEN
      RAISE EXCEPTION '% runs may be going on', running
        USING HINT = 'See pgexport.orphans(); then pgexport.cancel(), or pgexport.abandon() for what is known to be gone.';
    END IF;
    DROP SCHEMA pgexport CASCADE;
  END IF;
  FOREACH unwanted IN ARRAY ARRAY['pgexport_reader', 'pgexport_worker', 'pgexport_owner'] LOOP
    IF to_regrole(unwanted) IS NOT NULL THEN
      BEGIN
        EXECUTE format('DROP ROLE %I', unwanted);
      EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
        RAISE NOTICE 'the role % stays: %', unwanted, SQLERRM;
      END;
    END IF;
  END LOOP;
END
$uninstall$;
COMMIT;
