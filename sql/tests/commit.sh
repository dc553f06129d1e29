#!/usr/bin/env bash
# What is in the table of runs, and in S3, after each way in which an export can end. Run by test.sh, which starts the servers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=sql/tests/support/tap.sh
source tests/support/tap.sh

export PGAPPNAME=worker
sql "CREATE ROLE worker LOGIN IN ROLE pgexport_worker; CREATE ROLE other_worker LOGIN IN ROLE pgexport_worker"
sql "CREATE ROLE dba LOGIN IN ROLE pgexport_reader, pg_read_all_stats"
sql "CREATE TABLE asset AS SELECT n AS id, 'asset ' || n AS name FROM generate_series(1, 100) n; GRANT SELECT ON asset TO worker"
# A query that waits until open_gate; the session that holds the snapshot also keeps the gate.
gated="SELECT id FROM asset, (SELECT pg_advisory_xact_lock_shared(7)) gate"

# prepare CHUNK QUERY [MORE ARGUMENTS OF prepare_run()]: sets `id` and `statement`.
prepare() {
  local answer
  answer=$(sql "SELECT run_id, statement FROM pgexport.prepare_run(
    job_uid => 'job', attempt => 1, dataset => 'assets', chunk => $1, query => \$q\$$2\$q\$, bucket => '$BUCKET', key => '$1-$$',
    region => 'us-east-1', options => 'format csv' ${3:+, $3})" -U worker -F $'\x01')
  id=${answer%%$'\x01'*} statement=${answer#*$'\x01'}
}
# run CHUNK QUERY [MORE ARGUMENTS OF prepare_run()] [PSQL'S ARGUMENTS]: prepares, and sends the statement.
run() { prepare "${@:1:3}"; sql "$statement" -U worker "${@:4}" || true; }
# The same in the background, until it is at work; sets `client` to the client's process.
begin() {
  prepare "${@:1:3}"
  psql -Xq -U worker "${@:4}" -c "$statement" >/dev/null 2>&1 &
  client=$!
  until_is active "SELECT backend FROM pgexport.orphans() WHERE run_id = $id" "chunk $1 is committed as running before it is done"
}
ended() { wait "$client" 2>/dev/null || true; }
killed() { { kill -9 "$client" && wait "$client"; } 2>/dev/null || true; }
row() { sql "SELECT $1 FROM pgexport.run WHERE run_id = $id"; }
object() { if [[ -e $STAGING/$1-$$ ]]; then wc -l <"$STAGING/$1-$$"; else echo none; fi; }

# Without the extension.
run 0 "TABLE asset"
is "$(row "state, sqlstate, message, hint LIKE '%CREATE EXTENSION aws_s3%'")" "failed|PX002|the extension aws_s3 is not installed in this database|t" \
  "without the extension a run fails, and its row says why"
matches "$(sql "SELECT state FROM pgexport.status('job')" -U dba)" "*WARNING:  the extension aws_s3 is not installed*CREATE EXTENSION*failed" "and so does status()"

install_standin
run 0 "TABLE asset"
is "$(row "state, sqlstate, hint LIKE 'GRANT USAGE ON SCHEMA aws_s3%TO worker%'")" "failed|42501|t" "without grants likewise"
sql "SELECT aws_s3_standin.admit('worker'); SELECT aws_s3_standin.associate_role('$ROLE_FILE')" >/dev/null

# The job's snapshot.
coproc holder { exec psql -XqAt -U worker; }
echo "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT pg_export_snapshot(); SELECT pg_current_snapshot(); SELECT pgexport.instance();" >&"${holder[1]}"
read -r -u "${holder[0]}" snapshot
read -r -u "${holder[0]}" seen
read -r -u "${holder[0]}" instance
echo "SELECT pg_advisory_lock(7);" >&"${holder[1]}"
open_gate() { echo "SELECT pg_advisory_unlock(7);" >&"${holder[1]}"; }
close_gate() { echo "SELECT pg_advisory_lock(7);" >&"${holder[1]}"; }
sql "INSERT INTO asset VALUES (101, 'too late')"
shared="snapshot => '$snapshot', expected_snapshot => '$seen', expected_instance => '$instance', chunks => 20"

run 1 "TABLE asset" "$shared"
is "$(row "state, rows_uploaded, files_uploaded, bytes_uploaded, chunks, login, pid > 0, backend_start < started_at, finished_at > started_at"), $(object 1)" \
  "succeeded|100|1|1184|20|worker|t|t|t, 100" "a run exports what the job's snapshot saw, and its outcome is committed"
is "$(row "query_sha256")" "$(printf 'TABLE asset' | sha256sum | cut -d' ' -f1)" "with the query's hash"
matches "$(run 1 "TABLE asset" "$shared")" "*run $id of job job, attempt 1, chunk 1 is succeeded*Its files are there*" "a chunk that is there is not exported again"
is "$(sql "SELECT count(*) FROM pgexport.run WHERE chunk = 1")" 1 "and has one row"

begin 2 "$gated" "$shared"
is "$(sql "SELECT state, backend, elapsed > '0', chunk FROM pgexport.status('job') WHERE state = 'running'" -U dba)" "running|active|t|2" \
  "status() tells what runs and for how long"
is "$(sql "SELECT count(*) FROM pgexport.status('job')" -U other_worker)" 0 "but not to another login"
matches "$(run 2 "TABLE asset" "$shared")" "*attempt 1, chunk 2 is running*Wait for it*" "a chunk is not exported twice at once"
id=$(sql "SELECT run_id FROM pgexport.orphans('job')")
killed
is "$(sql "SELECT backend FROM pgexport.orphans('job')")" active "when its client is killed, the backend goes on"
open_gate
until_is succeeded "SELECT state FROM pgexport.run WHERE run_id = $id" "and its outcome is committed all the same"
is "$(row rows_uploaded), $(object 2)" "100, 100" "with all rows"
close_gate

tries=0
# The program that uploads is held, so COPY cannot go on once the pipe is full.
begin 19 "SELECT id, repeat('x', 10000) FROM asset, (SELECT pg_advisory_xact_lock_shared(7)) gate" "$shared"
until upload=$(pgrep -f "^python3 .*upload.py begin $SCRATCH/") || ((++tries > 200)); do sleep 0.05; done
kill -STOP "$upload"
open_gate
until_is "t|t" "SELECT rows_so_far BETWEEN 1 AND 99, bytes_so_far > 0 FROM pgexport.status('job') WHERE backend = 'active'" "status() tells how far it is" -U worker
kill -CONT "$upload"
ended
is "$(row "state, rows_uploaded"), $(object 19)" "succeeded|100, 100" "and the run goes on"
close_gate

begin 3 "$gated" "$shared" -c "SET client_connection_check_interval = '100ms'"
killed
until_is gone "SELECT backend FROM pgexport.orphans('job') WHERE run_id = $id" "where the server looks after its clients, the backend ends with its client"
is "$(row state), $(object 3)" "running, none" "without an outcome, and without an object"
is "$(sql "SELECT pgexport.mark_lost('job')" -U worker)" "$id" "which a successor sees"
is "$(row "state, finished_at IS NOT NULL, message LIKE 'The backend % is gone%'")" "lost|t|t" "and says in the table"
is "$(run 3 "TABLE asset" "$shared"; object 3)" 100 "and then exports the chunk anew"

begin 4 "$gated" "$shared"
is "$(sql "SELECT result FROM pgexport.cancel('job')" -U other_worker)" "" "another login has nothing to cancel"
is "$(sql "SELECT result FROM pgexport.cancel('job')" -U dba)" refused "who may not signal the backend is refused"
is "$(sql "SELECT run, result FROM pgexport.cancel('job')" -U worker)" "$id|signalled" "its own login cancels"
ended
is "$(row "state, sqlstate"), $(object 4)" "cancelled|57014, none" "and the row says so"
matches "$(row context)" "PL/pgSQL function*pgexport.export*EXECUTE*" "and where, without any statement"

begin 5 "$gated" "$shared"
is "$(sql "SELECT result FROM pgexport.cancel('job', terminate => true)" -U worker)" signalled "or terminates"
ended
until_is gone "SELECT backend FROM pgexport.orphans('job')" "which leaves no outcome"
sql "SELECT pgexport.mark_lost()" >/dev/null

run 6 "$gated" "$shared" -c "SET statement_timeout = '1s'"
is "$(row "state, sqlstate, hint"), $(object 6)" "failed|57014|statement_timeout is 1s: raise it, or export smaller chunks., none" "a timeout is no cancel"

run 7 "SELECT 1 / (id - 50), 'top secret' FROM asset" "$shared"
is "$(row "state, sqlstate, message"), $(object 7)" "failed|22012|division by zero, none" "an error in the query is committed"
is "$(row "num_nulls(rows_uploaded, files_uploaded, bytes_uploaded), to_jsonb(run)::text LIKE '%secret%'")" "3|f" "without a count, and without the query"
is "$(run 7 "SELECT id FROM asset" "$shared"; row state)" succeeded "and the chunk may be tried again"

run 8 "SELECT 1) TO PROGRAM 'touch /tmp/pgexport-escaped' --" "$shared"
is "$(row "state, sqlstate"), $(ls /tmp/pgexport-escaped 2>/dev/null)" "failed|42601, " "a query that closes the extension's parenthesis is a syntax error"
sql "GRANT INSERT ON asset TO worker"
run 8 "INSERT INTO asset VALUES (102, 'written') RETURNING id" "$shared"
is "$(row state)" failed "a query that writes fails"
sql "CREATE FUNCTION write() RETURNS integer LANGUAGE sql AS 'INSERT INTO asset VALUES (103) RETURNING id'"
run 8 "SELECT write()" "$shared"
is "$(row "state, sqlstate"), $(sql "SELECT count(*) FROM asset")" "failed|25006, 101" "also by a function"

is "$(run 9 "TABLE asset" "$shared" -c "SET default_transaction_read_only = on" -c "SET default_transaction_isolation = serializable"; row state)" succeeded \
  "what a session's transactions are by default does not matter"
is "$(run 10 "TABLE asset" "" -c "SET search_path = nowhere"; row "state, sqlstate, message")" 'failed|42P01|relation "asset" does not exist' "names are the caller's"
is "$(run 10 "TABLE asset" "chunks => 20"; row "state, rows_uploaded")" "succeeded|101" "without a snapshot a run takes its own"
matches "$(run 11 "TABLE asset" "$shared" -c BEGIN)" "*invalid transaction termination*" "in somebody's transaction it refuses"
is "$(sql "SELECT count(*) FROM pgexport.run WHERE chunk = 11")" 0 "before there is a row"
run 12 "TABLE asset" "expected_snapshot => '1:1:'"
is "$(row "state, sqlstate")" "failed|PX001" "another snapshot than the job's is an error"
run 12 "TABLE asset" "expected_instance => 'another one'"
is "$(row "state, sqlstate")" "failed|PX001" "and so is another instance"

sql "CREATE TABLE late AS TABLE asset; GRANT SELECT ON late TO worker"
psql -Xq -c "BEGIN; TRUNCATE late; INSERT INTO late TABLE asset" -c "DO \$\$BEGIN
  WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'late'::regclass AND NOT granted) LOOP PERFORM pg_sleep(0.05); END LOOP;
END\$\$" -c COMMIT &
rewriting=$!
until_is t "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'late'::regclass AND granted" "a table is being rewritten"
run 20 "TABLE late"
wait $rewriting
is "$(row "state, sqlstate, message LIKE 'table public.late was made or rewritten%'")" "failed|PX005|t" "what misses the rows of a rewritten table fails"
is "$(run 20 "TABLE late"; row "state, rows_uploaded")" "succeeded|101" "and the next snapshot has them"

# On the standby, with the row on the writer.
on_standby() { sql "$@" -h "$STANDBY" -U worker; }
caught_up() { until_is t "SELECT pg_last_wal_replay_lsn() >= '$(sql "SELECT pg_current_wal_lsn()")'" "the standby has caught up" -h "$STANDBY"; }
caught_up
{ coproc standby { exec psql -XqAt -h "$STANDBY" -U worker 2>&1; }; } 2>/dev/null # bash warns of a second one
ask() { echo "$1" >&"${standby[1]}"; }
hear() { local line; read -r -u "${standby[0]}" line; echo "$line"; }
ask "SELECT pgexport.this_backend()::text;"
backend=$(hear)
id=$(sql "SELECT pgexport.begin_run('job', 1, 'assets', 13, repeat('0f', 32), '$BUCKET', '13', backend => '$backend')" -U worker)
is "$(sql "SELECT backend, standby FROM pgexport.orphans('job')")" "elsewhere|t" "to the writer, a run on the standby is elsewhere"
is "$(sql "SELECT result FROM pgexport.cancel('job')"), $(sql "SELECT pgexport.mark_lost('job')")" "elsewhere, " "and neither to be cancelled nor lost"
caught_up
is "$(on_standby "SELECT backend FROM pgexport.orphans('job')")" idle "on the standby it is seen"
ask "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT replace(pgexport.export('SELECT id, pg_sleep(0.05) FROM asset', '$BUCKET', '13-$$', 'us-east-1')::text, chr(10), '; '); COMMIT;"
until_is active "SELECT backend FROM pgexport.orphans('job')" "at work" -h "$STANDBY" -U worker
outcome=$(hear)
is "$(sql "SELECT pgexport.finish_run($id, '$outcome')" -U worker), $(row "state, rows_uploaded"), $(object 13)" "t, succeeded|101, 101" \
  "its outcome is a row, which is committed on the writer"
id=$(sql "SELECT pgexport.begin_run('job', 1, 'assets', 14, repeat('0f', 32), '$BUCKET', '14', backend => '$backend')" -U worker)
caught_up
ask "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT replace(pgexport.export('SELECT pg_sleep(100)', '$BUCKET', '14-$$', 'us-east-1')::text, chr(10), '; '); COMMIT;"
until_is active "SELECT backend FROM pgexport.orphans('job')" "another export is at work" -h "$STANDBY" -U worker
is "$(on_standby "SELECT result FROM pgexport.cancel('job')")" signalled "on the standby it is cancelled"
outcome=$(hear)
is "$(sql "SELECT pgexport.finish_run($id, '$outcome')" -U worker), $(row state), $(object 14)" "t, cancelled, none" "which is an outcome like others"
ask "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT (pgexport.export('TABLE asset', '$BUCKET', '15', expected_instance => '$instance')).sqlstate; COMMIT;"
is "$(hear)" PX001 "the writer's job does not run on the standby by mistake"
ask "SELECT (pgexport.export('TABLE asset', '$BUCKET', '15')).sqlstate;"
is "$(hear)" 25000 "nor outside of a transaction that sees one snapshot"
matches "$(on_standby "SELECT pgexport.begin_run('job', 1, 'assets', 15, repeat('0f', 32), '$BUCKET', '15')" || true)" "*read-only transaction*" "rows are the writer's"
ask '\q'
echo '\q' >&"${holder[1]}"
wait
matches "$(run 16 "TABLE asset" "$shared"; row state)" "*snapshot*running" "once the snapshot is gone, the statement itself fails, after the row was committed"
until_is gone "SELECT backend FROM pgexport.orphans('job')" "which shows"
sql "SELECT pgexport.mark_lost()" -U worker >/dev/null

sql "SELECT aws_s3_standin.forget_kms_key(); SELECT aws_s3_standin.admit('worker')" >/dev/null
is "$(run 17 "TABLE asset" "kms_key => 'alias/mine'"; row "state, sqlstate")" "failed|PX003" "an old extension is not given a KMS key"
is "$(run 17 "TABLE asset"; row "state, rows_uploaded")" "succeeded|101" "and exports without"
install_standin
sql "SELECT aws_s3_standin.admit('worker'); SELECT aws_s3_standin.associate_role('$ROLE_FILE')" >/dev/null
is "$(run 18 "TABLE asset" "kms_key => 'alias/mine'"; row "state, rows_uploaded")" "succeeded|101" "a present one is"

is "$(sql "SELECT succeeded + failed + cancelled + lost, running, chunks FROM pgexport.progress('job')" -U dba)" \
  "$(sql "SELECT count(*) FROM pgexport.run WHERE job_uid = 'job'")|0|20" "progress() counts it all"
all=$(sql "SELECT count(*) FROM pgexport.run")
is "$(sql "SELECT pgexport.purge('0')" -U worker), $(sql "SELECT count(*) FROM pgexport.run")" "$all, 0" "purge() forgets what is over"
finish
