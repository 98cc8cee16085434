//! Terminal colours as classes: sixteen of them, so that themes keep their contrast; every other colour is taken to the
//! nearest.

use std::fmt::Write;

use vte::Params;

/// How a character looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    ink: Option<u8>,
    ground: Option<u8>,
    marks: u8,
}

const BOLD: u8 = 1;
const DIM: u8 = 1 << 1;
const ITALIC: u8 = 1 << 2;
const UNDERLINE: u8 = 1 << 3;
const STRIKE: u8 = 1 << 4;
const INVERSE: u8 = 1 << 5;

const CLASSES: [(u8, &str); 5] = [
    (BOLD, "B"),
    (DIM, "D"),
    (ITALIC, "I"),
    (UNDERLINE, "U"),
    (STRIKE, "S"),
];

/// The sixteen colours as terminals draw them, to find the nearest.
const PALETTE: [(u8, u8, u8); 16] = [
    (0, 0, 0),
    (205, 0, 0),
    (0, 205, 0),
    (205, 205, 0),
    (0, 0, 238),
    (205, 0, 205),
    (0, 205, 205),
    (229, 229, 229),
    (127, 127, 127),
    (255, 0, 0),
    (0, 255, 0),
    (255, 255, 0),
    (92, 92, 255),
    (255, 0, 255),
    (0, 255, 255),
    (255, 255, 255),
];

impl Style {
    pub(super) const PLAIN: Self = Self {
        ink: None,
        ground: None,
        marks: 0,
    };

    /// Applies the parameters of an SGR sequence.
    pub(super) fn apply(&mut self, params: &Params) {
        let mut params = params.iter();
        while let Some(param) = params.next() {
            let code = param.first().copied().unwrap_or(0);
            match code {
                0 => *self = Self::PLAIN,
                1 => self.marks |= BOLD,
                2 => self.marks |= DIM,
                3 => self.marks |= ITALIC,
                4 => self.marks |= UNDERLINE,
                7 => self.marks |= INVERSE,
                9 => self.marks |= STRIKE,
                22 => self.marks &= !(BOLD | DIM),
                23 => self.marks &= !ITALIC,
                24 => self.marks &= !UNDERLINE,
                27 => self.marks &= !INVERSE,
                29 => self.marks &= !STRIKE,
                30..=37 => self.ink = small(code - 30),
                40..=47 => self.ground = small(code - 40),
                90..=97 => self.ink = small(code - 90 + 8),
                100..=107 => self.ground = small(code - 100 + 8),
                39 => self.ink = None,
                49 => self.ground = None,
                38 | 48 => {
                    let colour = extended(param, || params.next().and_then(|p| p.first().copied()));
                    if code == 38 {
                        self.ink = colour;
                    } else {
                        self.ground = colour;
                    }
                }
                _ => {}
            }
        }
    }

    /// Writes `content` inside a span of this style, or bare if there is none.
    pub(super) fn wrap(self, html: &mut String, content: impl FnOnce(&mut String)) {
        if self == Self::PLAIN {
            return content(html);
        }
        html.push_str("<span class=\"");
        let (ink, ground) = if self.marks & INVERSE == 0 {
            (self.ink, self.ground)
        } else {
            (Some(self.ground.unwrap_or(16)), Some(self.ink.unwrap_or(16)))
        };
        let colours = [('f', ink), ('b', ground)];
        let marks = CLASSES.iter().filter(|(mark, _)| self.marks & mark != 0);
        for (kind, colour) in colours {
            if let Some(colour) = colour {
                // Writing to a string cannot fail.
                let _ = write!(html, "{kind}{colour} ");
            }
        }
        for (_, class) in marks {
            html.push_str(class);
            html.push(' ');
        }
        html.truncate(html.trim_end().len());
        html.push_str("\">");
        content(html);
        html.push_str("</span>");
    }
}

fn small(code: u16) -> Option<u8> {
    u8::try_from(code).ok()
}

/// Reads `38;5;N`, `38;2;R;G;B` and their forms with colons.
fn extended(param: &[u16], mut next: impl FnMut() -> Option<u16>) -> Option<u8> {
    match param {
        [_, 5, index, ..] => indexed(*index),
        [_, 2, red, green, blue] | [_, 2, _, red, green, blue, ..] => Some(nearest(*red, *green, *blue)),
        [_] => match next()? {
            5 => indexed(next()?),
            2 => Some(nearest(next()?, next()?, next()?)),
            _ => None,
        },
        _ => None,
    }
}

fn indexed(index: u16) -> Option<u8> {
    match index {
        0..=15 => small(index),
        16..=231 => {
            let level = |step: u16| if step == 0 { 0 } else { 55 + 40 * step };
            let cube = index - 16;
            Some(nearest(level(cube / 36), level(cube / 6 % 6), level(cube % 6)))
        }
        232..=255 => {
            let grey = 8 + 10 * (index - 232);
            Some(nearest(grey, grey, grey))
        }
        _ => None,
    }
}

fn nearest(red: u16, green: u16, blue: u16) -> u8 {
    let distance = |(r, g, b): (u8, u8, u8)| {
        let part = |a: u16, b: u8| u32::from(a.min(255).abs_diff(u16::from(b))).pow(2);
        part(red, r) + part(green, g) + part(blue, b)
    };
    (0_u8..)
        .zip(PALETTE)
        .min_by_key(|(_, colour)| distance(*colour))
        .map_or(7, |(at, _)| at)
}
