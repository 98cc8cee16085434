use proptest::prelude::*;

use super::Renderer;

fn html(text: &str) -> Vec<String> {
    Renderer::render(text.as_bytes(), 1_000)
}

fn line(text: &str) -> String {
    html(text).concat()
}

#[test]
fn markup_is_text() {
    assert_eq!(
        line("<script>alert('x')</script> & \"y\""),
        "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;"
    );
}

#[test]
fn colours_become_classes() {
    assert_eq!(line("\x1b[31mred\x1b[0m x"), "<span class=\"f1\">red</span> x");
    assert_eq!(line("\x1b[1;92;44mx"), "<span class=\"f10 b4 B\">x</span>");
    assert_eq!(line("\x1b[38;5;196mx"), "<span class=\"f9\">x</span>");
    assert_eq!(line("\x1b[38;2;0;250;0mx"), "<span class=\"f10\">x</span>");
    assert_eq!(line("\x1b[38:2::0:250:0mx"), "<span class=\"f10\">x</span>");
    assert_eq!(line("\x1b[7mx"), "<span class=\"f16 b16\">x</span>");
    assert_eq!(line("\x1b[1mx\x1b[22my"), "<span class=\"B\">x</span>y");
}

#[test]
fn a_style_spans_lines() {
    assert_eq!(
        html("\x1b[32ma\nb\x1b[m\nc"),
        ["<span class=\"f2\">a</span>", "<span class=\"f2\">b</span>", "c"]
    );
}

#[test]
fn progress_bars_show_their_last_state() {
    assert_eq!(html("10 %\r20 %\r100 %\nnext"), ["100 %", "next"]);
    assert_eq!(line("downloading\r\x1b[Kdone"), "done");
    assert_eq!(line("abc\x08\x08X"), "aXc");
    assert_eq!(line("abc\x1b[2K\rx"), "x");
    assert_eq!(line("\x1b[?25lhidden\x1b[?25h"), "hidden");
}

#[test]
fn only_web_links_stay_links() {
    assert_eq!(
        line("\x1b]8;;https://a.example/?x=1&y='\x07here\x1b]8;;\x07 there"),
        "<a rel=\"noopener noreferrer nofollow\" href=\"https://a.example/?x=1&amp;y=&#39;\">here</a> there"
    );
    for bad in ["javascript:alert(1)", "data:text/html,x", "//x", "https:evil"] {
        assert_eq!(line(&format!("\x1b]8;;{bad}\x07x\x1b]8;;\x07")), "x", "{bad}");
    }
}

#[test]
fn long_lines_are_cut_with_a_count() {
    assert_eq!(
        Renderer::render(b"abcdef\nx", 4),
        ["abcd<i class=cut> … 2 more characters</i>", "x"]
    );
}

#[test]
fn moves_cannot_make_pages_of_blanks() {
    let text = "\x1b[65535Cx\n".repeat(10);
    assert!(html(&text).iter().all(|line| line.len() < 300));
}

#[test]
fn direction_tricks_are_shown() {
    assert_eq!(line("a\u{202e}b"), "a\u{fffd}b");
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<Vec<u8>>(),
        "\\PC{0,12}".prop_map(String::into_bytes),
        "\x1b\\[[0-9;:?]{0,12}[A-Za-z]".prop_map(String::into_bytes),
        "\x1b\\]8;[a-z=]{0,4};(https://|javascript:)[a-z<>\"'&]{0,9}\x07".prop_map(String::into_bytes),
        Just(b"<img src=x onerror=\"1\">\r\n".to_vec()),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

/// Whether the text is made of our own tags and escaped text only.
fn is_tame(html: &str) -> bool {
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let Some((tag, after)) = rest.get(at..).and_then(|tag| tag.split_once('>')) else {
            return false;
        };
        let ours = [
            "<span class=\"",
            "</span",
            "<a rel=\"noopener noreferrer nofollow\" href=\"http",
            "</a",
            "<i class=cut",
            "</i",
        ];
        let quotes = tag.matches('"').count();
        if !ours
            .iter()
            .any(|start| tag.to_ascii_lowercase().starts_with(start))
            || !matches!(quotes, 0 | 2 | 4)
        {
            return false;
        }
        rest = after;
    }
    !rest.contains('\u{1b}') && html.matches("<span").count() == html.matches("</span>").count()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_wild_markup(bytes in hostile()) {
        for line in Renderer::render(&bytes, 64) {
            prop_assert!(is_tame(&line), "{line}");
        }
    }

    #[test]
    fn pieces_render_like_the_whole(bytes in hostile(), at in any::<prop::sample::Index>()) {
        let (head, tail) = bytes.split_at(at.index(bytes.len() + 1));
        let mut renderer = Renderer::new(64);
        renderer.feed(head);
        renderer.feed(tail);
        let mut lines = renderer.take();
        lines.extend(renderer.partial());
        prop_assert_eq!(lines, Renderer::render(&bytes, 64));
    }
}
