#!/usr/bin/env bash
# Installing anew, again, by an administrator who is no superuser, over something foreign or newer; and uninstalling.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/support/tap.sh

export PGDATABASE=install_test
sql "CREATE DATABASE $PGDATABASE" -d postgres
install() { psql -Xq -f pgexport.sql "$@" 2>&1 || echo "status $?"; }
uninstall() { psql -Xq -f uninstall.sql "$@" 2>&1 || echo "status $?"; }
roles() { sql "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'pgexport\_%'"; }

# As on Amazon's services, where nobody is a superuser.
sql "CREATE ROLE administrator LOGIN CREATEROLE; GRANT CREATE ON DATABASE $PGDATABASE TO administrator"
is "$(roles)" 0 "there are no roles yet"
is "$(install -U administrator)" "" "an administrator who is no superuser installs it"
is "$(install -U administrator)" "" "and again"
is "$(sql "SELECT pgexport.version()" -U administrator)" 2 "and may use it"
matches "$(uninstall -U administrator)" "*drop cascades to table pgexport.run*" "and uninstalls it"
is "$(roles)" 0 "roles included"

# From the former version, with a run under way; what is made differs in nothing from what is made anew.
made() { sql "SELECT p.oid::regprocedure, p.proacl, md5(pg_get_functiondef(p.oid)) FROM pg_proc p WHERE pronamespace = 'pgexport'::regnamespace ORDER BY p.oid::regprocedure::text;
  SELECT c.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, c.relacl, c.relrowsecurity FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
  WHERE relnamespace = 'pgexport'::regnamespace AND a.attnum > 0 ORDER BY c.oid::regclass::text, a.attnum;
  SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'pgexport'::regnamespace ORDER BY conrelid::regclass::text, conname;
  SELECT tablename, policyname, roles, qual FROM pg_policies WHERE schemaname = 'pgexport' ORDER BY 1, 2"; }
install -U administrator >/dev/null
anew=$(made)
uninstall -U administrator >/dev/null
is "$(psql -Xq -U administrator -f tests/former/1.sql 2>&1; sql "SELECT pgexport.version()")" 1 "the former version is installed"
sql "SELECT pgexport.begin_run('job', 1, 'd', 0, repeat('0f', 32), 'bucket', 'key', run_id => 17)" >/dev/null
is "$(install -U administrator)" "" "and upgraded"
is "$(sql "SELECT pgexport.version(), (SELECT string_agg(version::text, ' ' ORDER BY version) FROM pgexport.migration)")" "2|1 2" "to the present one"
is "$(made)" "$anew" "which is as if it had been installed anew"
is "$(sql "SELECT pgexport.abandon(17, 'for this test')"; sql "SELECT state FROM pgexport.run"; sql "SELECT count(*) FROM pgexport.attempts('job')")" \
  $'t\nlost\n0' "and the run that was under way ends by the new functions"
uninstall -U administrator >/dev/null
is "$(install -U administrator)" "" "and installs it anew"

before=$(sql "SELECT p.oid, p.proacl, md5(p.prosrc) FROM pg_proc p WHERE pronamespace = 'pgexport'::regnamespace ORDER BY 1;
  SELECT oid, relacl FROM pg_class WHERE relnamespace = 'pgexport'::regnamespace ORDER BY 1; TABLE pgexport.migration")
sql "SELECT pgexport.begin_run('job', 1, 'd', 0, repeat('0f', 32), 'bucket', 'key')" >/dev/null
is "$(install)" "" "a superuser installs it over that"
is "$(sql "SELECT p.oid, p.proacl, md5(p.prosrc) FROM pg_proc p WHERE pronamespace = 'pgexport'::regnamespace ORDER BY 1;
  SELECT oid, relacl FROM pg_class WHERE relnamespace = 'pgexport'::regnamespace ORDER BY 1; TABLE pgexport.migration")" \
  "$before" "and changes nothing"
is "$(sql "SELECT job_uid FROM pgexport.run")" job "and keeps the runs"

sql "CREATE OR REPLACE FUNCTION pgexport.version() RETURNS integer LANGUAGE sql AS 'SELECT 17'"
sql "GRANT ALL ON ALL TABLES IN SCHEMA pgexport TO pgexport_worker, public"
install
is "$(sql "SELECT pgexport.version(), has_table_privilege('pgexport_worker', 'pgexport.run', 'INSERT')")" "2|f" "it mends functions and grants"

sql "INSERT INTO pgexport.migration (version) VALUES (1000)"
matches "$(install)" "*version 1000 of the schema pgexport is installed here*status 3" "it refuses to go back behind a newer version"
is "$(sql "SELECT count(*) FROM pgexport.run")" 1 "and leaves that as it is"
sql "DELETE FROM pgexport.migration WHERE version = 1000"

install -d postgres >/dev/null
sql "INSERT INTO pgexport.run (job_uid, attempt, dataset, chunk, login, application_name, instance, standby, pid, query_sha256, bucket, key)
  VALUES ('job', 1, 'd', 1, 'worker', '', 'a standby', true, 1, repeat('0f', 32), 'bucket', 'key1')"
matches "$(uninstall)" "*1 runs may be going on*status 3" "it is not uninstalled while a run may be going on"
sql "SELECT pgexport.abandon(run_id, 'for this test') FROM pgexport.run WHERE instance = 'a standby'" >/dev/null
matches "$(uninstall)" "*the role pgexport_worker stays*" "uninstalled, it leaves the roles that another database needs"
is "$(sql "SELECT to_regnamespace('pgexport')")" "" "but no schema"
uninstall -d postgres >/dev/null
is "$(roles)" 0 "with the last database they go"

sql "CREATE ROLE mallory LOGIN; CREATE SCHEMA pgexport AUTHORIZATION mallory"
matches "$(install)" "*does not belong to the role pgexport_owner*status 3" "somebody else's schema is left alone"
is "$(roles)" 0 "and a failed installation leaves nothing"

sql "DROP DATABASE $PGDATABASE" -d postgres
sql "DROP ROLE mallory; DROP ROLE administrator" -d postgres
finish
