//! Markdown of strangers as HTML: no HTML of theirs, no images, links to http and https alone. Entry: [`render`].

use std::fmt::Write;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// How deep blocks may lie in one another; what is deeper stands there without its frame.
const DEEPEST: usize = 16;
/// Where the page's own headings end.
const BELOW: HeadingLevel = HeadingLevel::H4;

/// A text as HTML that may stand in a page.
pub(crate) fn render(text: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut open = Vec::new();
    let events = Parser::new_ext(text, options).filter_map(|event| tame(event, &mut open));
    let mut out = String::new();
    html::push_html(&mut out, events);
    out
}

/// An event that is safe in a page; `open` says of every tag that is open how it is to be closed.
fn tame<'a>(event: Event<'a>, open: &mut Vec<Close>) -> Option<Event<'a>> {
    match event {
        Event::Start(tag) => {
            let (event, close) = if open.len() < DEEPEST {
                start(tag)
            } else {
                (None, Close::Never)
            };
            open.push(close);
            event
        }
        Event::End(end) => match open.pop() {
            None | Some(Close::Never) => None,
            Some(Close::AsItIs) => Some(Event::End(end)),
            Some(Close::As(end)) => Some(Event::End(end)),
            Some(Close::Link) => Some(Event::InlineHtml("</a>".into())),
        },
        Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
        Event::Text(_)
        | Event::Code(_)
        | Event::SoftBreak
        | Event::HardBreak
        | Event::Rule
        | Event::TaskListMarker(_) => Some(event),
        Event::InlineMath(_) | Event::DisplayMath(_) | Event::FootnoteReference(_) => None,
    }
}

/// How a tag is closed.
enum Close {
    Never,
    AsItIs,
    As(TagEnd),
    Link,
}

fn start(tag: Tag<'_>) -> (Option<Event<'_>>, Close) {
    match tag {
        Tag::Heading { .. } => {
            let heading = Tag::Heading {
                level: BELOW,
                id: None,
                classes: Vec::new(),
                attrs: Vec::new(),
            };
            (Some(Event::Start(heading)), Close::As(TagEnd::Heading(BELOW)))
        }
        // A page allows no style of its own, and no class that somebody else named.
        Tag::Table(columns) => {
            let plain = columns.iter().map(|_| pulldown_cmark::Alignment::None).collect();
            (Some(Event::Start(Tag::Table(plain))), Close::AsItIs)
        }
        Tag::CodeBlock(_) => (
            Some(Event::Start(Tag::CodeBlock(CodeBlockKind::Indented))),
            Close::AsItIs,
        ),
        Tag::Link { dest_url, .. } if is_web(&dest_url) => {
            let link = format!("<a href=\"{}\" rel=\"nofollow noreferrer\">", Quoted(&dest_url));
            (Some(Event::InlineHtml(link.into())), Close::Link)
        }
        Tag::Paragraph
        | Tag::BlockQuote(None)
        | Tag::List(_)
        | Tag::Item
        | Tag::TableHead
        | Tag::TableRow
        | Tag::TableCell
        | Tag::Emphasis
        | Tag::Strong
        | Tag::Strikethrough => (Some(Event::Start(tag)), Close::AsItIs),
        // Of what a page must not show, the text inside stays.
        Tag::Link { .. }
        | Tag::Image { .. }
        | Tag::HtmlBlock
        | Tag::BlockQuote(Some(_))
        | Tag::FootnoteDefinition(_)
        | Tag::DefinitionList
        | Tag::DefinitionListTitle
        | Tag::DefinitionListDefinition
        | Tag::Superscript
        | Tag::Subscript
        | Tag::MetadataBlock(_) => (None, Close::Never),
    }
}

fn is_web(address: &str) -> bool {
    let scheme = address
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

/// A text as the value of an attribute.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::render;

    /// The tags that the evil texts below may lead to, none with an attribute.
    const TAGS: [&str; 6] = ["p", "h4", "pre", "code", "a", "br /"];

    #[test]
    fn what_people_write_is_rendered() {
        let html = render(
            "# Done\n\n| a | b |\n|:-:|---|\n| 1 | `x<y` |\n\n- [x] *one* <https://ci.example/a?b=1&c=2>\n\n```sh\nls\n```\n",
        );
        assert!(html.contains("<h4>Done</h4>"), "{html}");
        assert!(html.contains("<td>1</td>") && !html.contains("style="), "{html}");
        assert!(html.contains("<code>x&lt;y</code>"), "{html}");
        assert!(
            html.contains("<a href=\"https://ci.example/a?b=1&amp;c=2\" rel=\"nofollow noreferrer\">"),
            "{html}"
        );
        assert!(html.contains("<pre><code>ls\n</code></pre>"), "{html}");
    }

    #[test]
    fn nothing_of_strangers_becomes_markup() {
        let evil = [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "a <b onclick=x>b</b> c",
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt://alert(1))",
            "[x](data:text/html,<script>)",
            "[x](//evil.example)",
            "![x](https://evil.example/pixel.png)",
            "![x](\"onerror=alert(1)//)",
            "[x](https://a.example/\"onclick=alert(1)//)",
            "[x](<https://a.example/' onclick='alert(1)>)",
            "```a\"onclick=x\ncode\n```",
            "# x {#id .class onclick=x}",
            "<!-- --!> <script> -->",
            "<a href=\"javascript:x\">x</a>",
            "[a]: javascript:alert(1)\n\n[a]",
            "<style>body{display:none}</style>",
            "</div></section><form action=//evil.example>",
        ];
        for text in evil {
            let html = render(text);
            for tag in html.split('<').skip(1).filter_map(|rest| rest.split_once('>')) {
                let is_ours = TAGS.contains(&tag.0.trim_start_matches('/'))
                    || tag.0.starts_with("a href=\"http")
                        && tag.0.ends_with("\" rel=\"nofollow noreferrer\"");
                assert!(is_ours && tag.0.matches('"').count() <= 4, "{text} made {html}");
            }
        }
    }

    #[test]
    fn deep_and_long_texts_stay_bounded() {
        let deep = render(&">".repeat(20_000));
        assert!(deep.matches("<blockquote>").count() <= super::DEEPEST);
        let deep = render(&format!("{}x", "- ".repeat(20_000)));
        assert!(deep.matches("<ul>").count() <= super::DEEPEST);
        let wild = "[".repeat(30_000) + &"*a_`<".repeat(6_000);
        assert!(render(&wild).len() < 1 << 20);
    }
}
