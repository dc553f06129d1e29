#!/usr/bin/env bash
# That the stand-in does what AWS documents of its extension. Run by sql/test.sh, which starts the servers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=sql/tests/support/tap.sh
source sql/tests/support/tap.sh

install_standin
rm -rf "${SCRATCH:?}"/*
sql "CREATE ROLE exporter LOGIN; SELECT aws_s3_standin.admit('exporter')" >/dev/null
sql "CREATE TABLE finding AS SELECT n AS id, 'finding ' || n AS title FROM generate_series(1, 1000) n; GRANT SELECT ON finding TO exporter"
# upload ARGUMENTS [SETTING=VALUE…]: calls the function as an ordinary login.
upload() {
  local setting options=
  for setting in "${@:2}"; do options+=" -c aws_s3.$setting"; done
  PGOPTIONS=$options sql "SELECT * FROM aws_s3.query_export_to_s3($1)" -U exporter || true
}
sum() { (cd "$STAGING" && cat "$@" | sha256sum); }
copy() { sql "COPY ($1) TO STDOUT ${2:-}" -U exporter | sha256sum; }

matches "$(upload "'SELECT 1', '$BUCKET', 'a'")" "*credentials stored with the database cluster can't be accessed*s3Export*" \
  "without a role it exports nothing"
sql "SELECT aws_s3_standin.associate_role('$ROLE_FILE')" >/dev/null

is "$(upload "'TABLE finding', '$BUCKET', 'text'")" "1000|1|$(stat -c %s "$STAGING/text")" "it tells rows, files and bytes"
is "$(sum text)" "$(copy "TABLE finding")" "and writes what COPY writes"
is "$(upload "'SELECT 1', '$BUCKET', 'text'"; cat "$STAGING/text")" "1|1|2"$'\n1' "over what was there"
is "$(upload "'SELECT 1', aws_commons.create_s3_uri('$BUCKET', 'uri', 'us-east-1'), 'format csv'")" "1|1|2" \
  "it takes a URI, and arguments by position"
is "$(upload "query := 'SELECT 1 AS n', bucket := '$BUCKET', file_path := 'named', region := 'us-east-1', options := 'format csv, header true'")" \
  "1|1|4" "and by name, and does not count the header"
is "$(upload "'SELECT 1', s3_info => aws_commons.create_s3_uri('$BUCKET', 'kms', 'us-east-1'), kms_key => 'alias/mine'")" "1|1|2" "it takes a KMS key"
is "$(upload "'SELECT 1 WHERE false', '$BUCKET', 'empty'"; stat -c %s "$STAGING/empty")" "0|1|0"$'\n0' "it writes an empty file of no rows"
is "$(upload "'SELECT 1 WHERE false', '$BUCKET', 'none'" empty_file=off; ls "$STAGING/none" 2>/dev/null)" "0|0|0" "or, as one wants it, none"

nasty="SELECT 1 AS \"a b\", 2 AS \"a b\", e'back\\\\slash, \"quotes\", \\n\\r\\t tab' AS c, NULL AS d, ARRAY['x', NULL] AS e, B'101' AS bits, '[1,2)'::int4range AS range, pg_sleep(0) AS nothing, ROW(1, 'r') AS f, true AS g,
  '12 days'::interval AS h, '\\xdead'::bytea AS i, 'pad'::char(9) AS j, 1.50::numeric(9, 4) AS k, '{\"a\":  1}'::json AS l, 'pg_class'::regclass AS m"
for format in text csv binary; do
  upload "\$q\$$nasty\$q\$, '$BUCKET', '$format', options := 'format $format'" >/dev/null
  is "$(sum $format)" "$(copy "$nasty" "(FORMAT $format)")" "values are COPY's own in $format"
done
upload "\$q\$$nasty\$q\$, '$BUCKET', 'header', options := \$o\$format csv, header, delimiter e'\\x02', quote e'\\x01', encoding 'UTF8'\$o\$" >/dev/null
is "$(sum header)" "$(copy "$nasty" "(FORMAT csv, HEADER, DELIMITER e'\\x02', QUOTE e'\\x01')")" "and so are options and column names"

is "$(upload "'TABLE finding', '$BUCKET', 'split.csv', options := 'format csv, header'" file_bytes=7000)" "1000|3|15795" "large results go to several files"
is "$(cd "$STAGING" && tail -qn 1 split.csv{,_part2,_part3}; cd "$STAGING" && head -qn 1 split.csv_part{2,3})" \
  $'450,finding 450\n887,finding 887\n1000,finding 1000\n451,finding 451\n888,finding 888' "of whole rows"
is "$(sum split.csv{,_part2,_part3})" "$(copy "TABLE finding" "(FORMAT csv, HEADER)")" "which together are all"
upload "'TABLE finding', '$BUCKET', 'again.csv', options := 'format csv, header'" file_bytes=7000 repeat_header=on >/dev/null
is "$(cd "$STAGING" && head -qn 1 again.csv{,_part2,_part3} | sort -u)" "id,title" "each with its header, where one wants that"
is "$(upload "'TABLE finding', '$BUCKET', 'cut.csv', options := 'format csv, header'" file_bytes=7000 split_rows=on)" "1000|3|15795" "or of any bytes"
is "$(cd "$STAGING" && stat -c %s cut.csv cut.csv_part2; sum cut.csv{,_part2,_part3})" \
  $'7000\n7000\n'"$(copy "TABLE finding" "(FORMAT csv, HEADER)")" "cut where the limit is"
query="SELECT n, repeat(e'line\\n', 30) FROM generate_series(1, 100) n"
upload "\$q\$$query\$q\$, '$BUCKET', 'lines.csv', options := 'format csv'" file_bytes=1000 >/dev/null
is "$(cd "$STAGING" && head -qn 1 lines.csv* | grep -vc '^[0-9]*,"line$')" 0 "a row of many lines stays whole"
is "$(upload "'SELECT repeat(''x'', 6000000) FROM generate_series(1, 3)', '$BUCKET', 'large'"; stat -c %s "$STAGING/large")" \
  $'3|1|18000003\n18000003' "a large file is uploaded in parts"

is "$(upload "'TABLE finding', '$BUCKET', 'wrapped'" extra_rows=2399999000)" "-1894967296|1|$(stat -c %s "$STAGING/wrapped")" "rows are counted in 32 bits"
is "$(upload "'TABLE finding', '$BUCKET', 'wrapped'" extra_rows=2399999000 wrap_rows=off)" "2400000000|1|$(stat -c %s "$STAGING/wrapped")" "or not"

matches "$(upload "'SELECT 1;', '$BUCKET', 'x'")" '*syntax error at or near ";"*' "a semicolon is a syntax error"
matches "$(upload "'SELECT 1 -- one', '$BUCKET', 'x'")" "*syntax error*" "and so is an open comment"
matches "$(upload "'1) TO PROGRAM ''true'' --', '$BUCKET', 'x'")" "*syntax error*" "and a closed parenthesis"
matches "$(upload "'SELECT 1', 'nowhere', 'x'")" "*could not upload to Amazon S3*Amazon S3 client returned 'The specified bucket does not exist*" \
  "what S3 says is passed on"
matches "$(upload "'SELECT 1', '$BUCKET', 'x', 'eu-west-1'")" "*could not upload to Amazon S3*Amazon S3 client returned*" "also of a wrong region"
matches "$(upload "'TABLE finding', '$BUCKET', 'x', options := 'format json5'")" '*COPY format "json5" not recognized*' "options are COPY's"
matches "$(upload "'SELECT 1', '$BUCKET', 'x', options := 'format csv); CREATE ROLE mallory; --'")" "*these are no options of COPY*" "and nothing else"
matches "$(upload "'SELECT 1', '$BUCKET', 'x', options := \$o\$format csv, null e'\\\\'); CREATE ROLE mallory; --'\$o\$")" "*these are no options of COPY*" \
  "whatever is quoted"
is "$(upload "'SELECT 1 AS a, 2 AS b', '$BUCKET', 'x', options := \$o\$ FORMAT 'csv', header, delimiter ';', null e'\\\\N', force_quote (a, \"b\") \$o\$"; cat "$STAGING/x")" \
  $'1|1|12\na;b\n"1";"2"' "all that COPY takes are taken"
matches "$(upload "'SELECT 1/0', '$BUCKET', 'x'")" "*division by zero*" "an error in the query is its own"
matches "$(upload "'TABLE pg_authid', '$BUCKET', 'x'")" "*permission denied for table pg_authid*" "a login exports what it may read"
is "$(upload "'SELECT current_user, session_user', '$BUCKET', 'who'" >/dev/null; cat "$STAGING/who")" $'exporter\texporter' "as itself"
sql "CREATE ROLE stranger LOGIN"
matches "$(sql "SELECT * FROM aws_s3.query_export_to_s3('SELECT 1', '$BUCKET', 'x')" -U stranger || true)" "*permission denied for schema aws_s3*" \
  "a login without grants does not"
sql "CREATE SCHEMA mine; CREATE TABLE mine.finding AS SELECT 'mine'; GRANT USAGE ON SCHEMA mine TO exporter; GRANT SELECT ON mine.finding TO exporter"
is "$(PGOPTIONS='-c search_path=mine' sql "SELECT * FROM aws_s3.query_export_to_s3('TABLE finding', '$BUCKET', 'path')" -U exporter >/dev/null
  cat "$STAGING/path")" mine "names are the caller's"

read_only="BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT * FROM aws_s3.query_export_to_s3('TABLE finding', '$BUCKET', 'read-only'); COMMIT"
is "$(sql "$read_only" -U exporter)" "1000|1|$(stat -c %s "$STAGING/wrapped")" "it runs in a transaction that is read-only"
until_is "" "SELECT pg_last_wal_replay_lsn() < '$(sql "SELECT pg_current_wal_lsn()")' OR NULL" "the standby has caught up" -h "$STANDBY"
rm "$STAGING/read-only"
is "$(sql "$read_only" -U exporter -h "$STANDBY"; sum read-only)" "1000|1|$(stat -c %s "$STAGING/wrapped")"$'\n'"$(copy "TABLE finding")" "and on a standby"

uploads() { find "$STAGING/.sgwtmp" -path '*multipart*' -type f 2>/dev/null | wc -l; }
# Begins an upload of 150 MB, waits until some of it is in S3, and ends it by the statement.
end_by() {
  local answer
  answer=$(mktemp)
  upload "'SELECT repeat(''x'', 10000000) FROM generate_series(1, 15)', '$BUCKET', 'ended'" >"$answer" 2>&1 &
  for _ in {1..200}; do
    [[ $(uploads) == 0 ]] || break
    sleep 0.05
  done
  sql "$1 FROM pg_stat_activity WHERE usename = 'exporter'" >/dev/null
  wait $!
  cat "$answer"
  rm "$answer"
}
matches "$(end_by "SELECT pg_cancel_backend(pid)")" "*canceling statement due to user request*" "it is cancelled"
is "$(uploads; ls "$STAGING/ended" 2>&1)" $'0\n'"ls: cannot access '$STAGING/ended': No such file or directory" "and leaves no upload and no object"
matches "$(sql "SET statement_timeout = '1s'; SELECT * FROM aws_s3.query_export_to_s3('SELECT pg_sleep(20)', '$BUCKET', 'ended')" -U exporter || true)" \
  "*canceling statement due to statement timeout*" "it heeds statement_timeout"
is "$(ls "$SCRATCH")" "" "nor a file on the database's host"

sql "SELECT aws_s3_standin.forget_kms_key(); SELECT aws_s3_standin.admit('exporter')" >/dev/null
matches "$(upload "query => 'SELECT 1', bucket => '$BUCKET', file_path => 'x', kms_key => 'alias/mine'")" "*function aws_s3.query_export_to_s3*does not exist*" \
  "an old extension takes no KMS key"
is "$(upload "'SELECT 1', '$BUCKET', 'old'")" "1|1|2" "but exports"
finish
