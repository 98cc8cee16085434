# Tests the program whose path is given, and tells how many tests passed.
set -u
tally=$1
passed=0
failed=0

expect() {
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
        echo "ok   $1" | tee -a test-report.txt
    else
        failed=$((failed + 1))
        echo "FAIL $1: wanted '$2', got '$3'" | tee -a test-report.txt
    fi
}

: > test-report.txt
printf '' > empty.tmp
expect 'an empty file' '0 0 0' "$("$tally" empty.tmp)"
printf 'one two' > words.tmp
expect 'no line end' '0 2 7' "$("$tally" words.tmp)"
printf ' a\n\tb \n\n' > spaces.tmp
expect 'spaces and empty lines' '3 2 8' "$("$tally" spaces.tmp)"
expect 'a poem, as wc counts it' "$(wc < tests/poem.txt | awk '{ print $1, $2, $3 }')" "$("$tally" tests/poem.txt)"
"$tally" no-such-file 2> /dev/null
expect 'a missing file is an error' 1 "$?"
rm -f empty.tmp words.tmp spaces.tmp

echo "passed=$passed" >> "$PIPE_OUTPUT"
echo "all $passed tests passed, $failed failed"
[ "$failed" -eq 0 ]
