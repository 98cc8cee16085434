//! One line of a terminal: cells that can be overwritten, and their HTML.

use std::fmt::Write;

use super::style::Style;

const MOST_LINKS: usize = 64;
const LONGEST_LINK: usize = 1_024;

#[derive(Clone, Copy)]
struct Cell {
    shown: char,
    style: Style,
    link: Option<u16>,
}

const BLANK: Cell = Cell {
    shown: ' ',
    style: Style::PLAIN,
    link: None,
};

/// The cells of a line, up to a limit.
pub(super) struct Line {
    cells: Vec<Cell>,
    links: Vec<String>,
    most: usize,
    dropped: usize,
}

impl Line {
    pub(super) fn new(most: usize) -> Self {
        Self {
            cells: Vec::new(),
            links: Vec::new(),
            most,
            dropped: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.dropped == 0
    }

    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.links.clear();
        self.dropped = 0;
    }

    pub(super) fn put(&mut self, column: usize, shown: char, style: Style, link: Option<u16>) {
        if column >= self.most {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        if column >= self.cells.len() {
            self.cells.resize(column + 1, BLANK);
        }
        if let Some(cell) = self.cells.get_mut(column) {
            *cell = Cell { shown, style, link };
        }
    }

    /// Erases from the cursor (0), up to it (1), or all (2).
    pub(super) fn erase(&mut self, column: usize, what: u16) {
        match what {
            0 => self.cells.truncate(column),
            1 => self
                .cells
                .iter_mut()
                .take(column.saturating_add(1))
                .for_each(|cell| *cell = BLANK),
            2 => self.cells.clear(),
            _ => {}
        }
    }

    /// Notes where a link leads; nothing for the end of a link, and for anything but http(s).
    pub(super) fn link(&mut self, target: &[u8]) -> Option<u16> {
        let target = std::str::from_utf8(target).ok()?;
        let leads_out = ["http://", "https://"].iter().any(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        let is_plain = target.chars().all(|c| c.is_ascii_graphic());
        if !leads_out || !is_plain || target.len() > LONGEST_LINK || self.links.len() >= MOST_LINKS {
            return None;
        }
        self.links.push(target.to_owned());
        u16::try_from(self.links.len() - 1).ok()
    }

    pub(super) fn to_html(&self) -> String {
        let mut html = String::with_capacity(self.cells.len() + 16);
        let mut shown_links = 0;
        for linked in self.cells.chunk_by(|a, b| a.link == b.link) {
            let target = linked
                .first()
                .and_then(|cell| self.links.get(usize::from(cell.link?)))
                .filter(|_| shown_links < MOST_LINKS);
            if let Some(target) = target {
                shown_links += 1;
                html.push_str("<a rel=\"noopener noreferrer nofollow\" href=\"");
                target.chars().for_each(|c| escape(c, &mut html));
                html.push_str("\">");
            }
            for run in linked.chunk_by(|a, b| a.style == b.style) {
                let style = run.first().map_or(Style::PLAIN, |cell| cell.style);
                style.wrap(&mut html, |html| {
                    run.iter().for_each(|cell| escape(cell.shown, html));
                });
            }
            if target.is_some() {
                html.push_str("</a>");
            }
        }
        if self.dropped > 0 {
            // Writing to a string cannot fail.
            let _ = write!(html, "<i class=cut> … {} more characters</i>", self.dropped);
        }
        html
    }
}

fn escape(c: char, html: &mut String) {
    match c {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        other => html.push(other),
    }
}
