use std::process::Command;

use super::*;

const TRICKY: &str = r##"echo one
x=1 y='a
b' ; echo "$x $y"
if [ "$x" = 1 ] && ! false; then echo yes
else
  echo no
fi
for i in 1 2; do
  printf '%s\n' "$i" 2>/dev/null
done
cat <<END | tr a-z A-Z
if this; then
  it's "not" code
END
cat <<-'X Y' > /dev/null
	echo $
	X Y
case $x in
  1) echo case-one ;;
  (2) echo two ;;
esac
f() { echo "in f $1"; return 3; }
g ()
{
  local z=${1:-"}"}
  echo "z $z"
}
f a || echo "status $?"
g; false || :
false && true
echo "status $?"
set +e; (exit 4)
echo "status $?"
z=~ ; test "$z" = ~ && echo tilde
long \
  --word 2>/dev/null || echo missing
echo `echo a; echo b` $(printf '%s ' "$(echo nested)" ')') $((1 + (2 * 3)))
>/dev/null echo hidden
( cd / && pwd ) & wait
export E=$x F="a b"; echo "$E$F"
while read -r line; do echo "<$line>"; done <<A
1 2
A
$(echo echo) from expansion # comment it's
a=; b=$a; echo "${b:-none} ${a#'x'}" '$(' "'"
{ echo braces; } 2>&1
! false; echo "$?"
echo last"#"not#comment
"##;

fn run(shell: &[&str], script: &str, trace: &str) -> (String, String, Option<i32>) {
    let script = format!("PS4='+ $__pk_line: ' __pk= __pk_line=0;{trace}\n{script}");
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-eu", "-c", &script])
        .env("HOME", "/h")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

#[test]
fn numbering_changes_nothing_but_the_number() {
    let numbered = number(TRICKY, 1).unwrap();
    assert_eq!(numbered.lines().count(), TRICKY.lines().count());
    for shell in [&["sh"][..], &["bash", "--posix"]] {
        let (plain, changed) = (run(shell, TRICKY, ""), run(shell, &numbered, ""));
        assert_eq!((&changed.0, changed.2), (&plain.0, Some(0)));
        assert!(plain.0.contains("tilde") && plain.0.contains("status 4") && plain.0.contains("IT'S"));
    }
}

#[test]
fn commands_show_their_line() {
    let (_, trace, _) = run(&["sh"], &number(TRICKY, 1).unwrap(), "set -x");
    for line in [
        "+ 1: echo one",
        "+ 2: x=1",
        "+ 9: printf",
        "+ 22: echo in f a",
        "+ 31: echo status 1",
        "+ 38: echo hidden",
    ] {
        assert!(trace.contains(line), "{line} in {trace}");
    }
    for (number, line) in TRICKY
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with("echo "))
    {
        assert!(
            trace.contains(&format!("+ {}: echo ", number + 1)),
            "{line} in {trace}"
        );
    }
}

#[test]
fn what_is_beyond_it_is_left_alone() {
    for text in [
        "a=(1 2)",
        "echo 'open",
        "cat <<END\nno end",
        "((x=1))",
        "echo $(case a in a) echo;; esac)",
        "function f { :; }",
        "esac",
    ] {
        assert_eq!(number(text, 1), None, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics_and_taking_the_numbers_out_gives_the_text(text in "[a-c=$(){}'\"`;&|<>\\\\#! \n~]{0,40}") {
        if let Some(numbered) = number(&text, 7) {
            let mut plain = numbered;
            for line in 7..60 {
                let mark = format!("${{__pk#$((__pk_line={line}))}}");
                // As the value of an assignment it brings no space of its own.
                plain = plain.replace(&format!("={mark}"), "=");
                plain = plain.replace(&format!("{mark} "), "\u{1}").replace(&mark, "");
            }
            proptest::prop_assert_eq!(plain.replace('\u{1}', ""), text);
        }
    }
}
