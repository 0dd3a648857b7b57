//! The screen, and the same as plain text.
//!
//! ```text
//! cacheflow top   cluster, 6 of 6 nodes                              paused
//! reads 12.3k/s  hits 93.1 % …                     sums
//! hit ratio ▁▂▃▅▆▇   reads ▂▃▃▄▅                    where there is room
//! [Namespaces]  Hot keys  Nodes
//! namespace  reads/s▼  hit %  …                     the list, to the end
//! q quit  tab list  …
//! ```
//! Whatever is said by a colour is said by a word, too. Names come from clients, and
//! errors from servers: control characters in them never reach the terminal, which
//! ratatui would let pass.

use super::reading::{is_up, number, text, Span};
use super::view::{Column, List, Unit, View, COLUMNS, LISTS};
use crate::bench::{bytes_text, time_text};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span as Words};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Sparkline, Table, Widget};
use serde_json::Value;
use std::time::Duration;

/// From which height on there is room for curves.
const TALL: u16 = 18;
/// Lines that sums take at most.
const SUMS: usize = 7;
const NONE: &str = "–";
const NAME: u16 = 18;
const FIGURE: u16 = 10;
/// Of a budget that is nearly taken.
const NEARLY: f64 = 0.9;

const HELP: &str = "\
 tab, 1 2 3      the list: namespaces, hot keys, nodes
 s S             the column that namespaces are sorted by;
                 of hot keys: hits, cost, bytes, waits
 r               the other way round
 ↑ ↓ PgUp PgDn   scroll
 p               pause
 q               quit

 Rates are of the time between two readings; – is where
 there is none: nodes came or went, or counters were reset.
 Hits are of fresh and of stale values. saved s/s: seconds
 of the origin's time that hits save in each second.";

/// Draws all of it.
pub fn draw(view: &View, area: Rect, buffer: &mut Buffer) {
    let summary = summary(view, area.width);
    let curves = if area.height >= TALL { 4 } else { 0 };
    let heights = [1, summary.len().min(SUMS) as u16, curves, 1].map(Constraint::Length);
    let parts = Layout::vertical(heights.into_iter().chain([Constraint::Fill(1), Constraint::Length(1)]));
    let [title, sums, past, lists, list, keys] = parts.areas(area);
    Paragraph::new(head(view)).render(title, buffer);
    Paragraph::new(summary).render(sums, buffer);
    if curves > 0 {
        draw_past(view, past, buffer);
    }
    Paragraph::new(tabs(view)).render(lists, buffer);
    table(view, list.width).render(list, buffer);
    let line = "q quit  tab list  s sort  r reverse  ↑↓ scroll  p pause  ? help";
    Paragraph::new(Line::styled(line, Style::new().add_modifier(Modifier::DIM))).render(keys, buffer);
    if view.help {
        let [width, height] = [62.min(area.width), 15.min(area.height)];
        let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
        Clear.render(place, buffer);
        Paragraph::new(HELP).block(Block::bordered().title(" Keys ")).render(place, buffer);
    }
}

/// The same without a terminal: head, sums and every row of the list.
pub fn page(mut view: View, width: u16) -> String {
    let rows = [view.span.rows.len(), view.span.now.nodes.len(), view.span.now.hot_keys.len()];
    let longest = u16::try_from(rows.into_iter().max().unwrap_or(0)).unwrap_or(u16::MAX).saturating_add(1);
    let mut out = String::new();
    let mut write = |height: u16, render: &dyn Fn(Rect, &mut Buffer)| {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        render(buffer.area, &mut buffer);
        for y in 0..height {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            let line = line.trim_end();
            if !line.is_empty() {
                out.push_str(line);
                out.push('\n');
            }
        }
    };
    write(1, &|area, buffer| Paragraph::new(head(&view)).render(area, buffer));
    let sums = summary(&view, width);
    write(sums.len() as u16, &|area, buffer| Paragraph::new(sums.clone()).render(area, buffer));
    for (list, _) in LISTS {
        view.list = list;
        write(longest, &|area, buffer| table(&view, width).render(area, buffer));
    }
    out
}

fn coloured(view: &View, color: Color) -> Style {
    if view.plain {
        Style::new()
    } else {
        Style::new().fg(color)
    }
}

/// Text from elsewhere, with nothing in it that a terminal would obey.
fn tame(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn head(view: &View) -> Line<'static> {
    let nodes = &view.span.now.nodes;
    let up = nodes.iter().filter(|node| is_up(node)).count();
    let kind = view.span.now.overview.get("kind").and_then(Value::as_str).unwrap_or("asking").to_string();
    let mut line = vec![Words::styled("cacheflow top  ", bold())];
    if nodes.is_empty() {
        line.push(kind.into());
    } else {
        let text = format!("{kind}, {up} of {} nodes answer", nodes.len());
        let style = if up < nodes.len() { coloured(view, Color::Red) } else { Style::new() };
        line.push(Words::styled(text, style));
    }
    let failure = view.span.now.overview.get("failure").and_then(Value::as_str).map(tame);
    let down = || nodes.iter().find(|node| !is_up(node));
    let why = |node: &Value| format!("{}: {}", tame(text(node, "node")), tame(text(node, "error")));
    if let Some(failure) = failure.or_else(|| down().map(why)) {
        line.push(Words::styled(format!("  {failure}"), coloured(view, Color::Red)));
    }
    if view.paused {
        line.push(Words::styled("  paused", bold()));
    }
    Line::from(line)
}

/// A figure as it is written.
fn figure(unit: Unit, value: Option<f64>) -> String {
    let Some(value) = value else { return NONE.into() };
    match unit {
        Unit::Share => format!("{:.1}", value * 100.0),
        Unit::Bytes => bytes_text(value),
        Unit::Count => count(value),
    }
}

/// `0`, `0.3`, `845`, `12.3k`, `4.1M`
fn count(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        v if v < 100.0 && v.fract() != 0.0 => format!("{v:.1}"),
        v if v < 10_000.0 => format!("{v:.0}"),
        v if v < 1e6 => format!("{:.1}k", v / 1e3),
        v if v < 1e9 => format!("{:.1}M", v / 1e6),
        v => format!("{:.1}G", v / 1e9),
    }
}

/// The sums, in as many lines as they take at that width.
fn summary(view: &View, width: u16) -> Vec<Line<'static>> {
    let Span { now, rates, .. } = &view.span;
    let of = |name: &str| number(&now.overview, name);
    let rate = |value: Option<f64>| format!("{}/s", figure(Unit::Count, value));
    let share = |value: Option<f64>| format!("{} %", figure(Unit::Share, value));
    let seconds = |of: &str, which: &str| {
        let value = now.leases.get(of).and_then(|times| times.get(which)).and_then(Value::as_f64);
        value.map_or_else(|| NONE.into(), |value| time_text(Duration::from_secs_f64(value.max(0.0))))
    };
    let memory = match of("limitBytes") {
        Some(limit) if limit > 0.0 => {
            format!("{} of {}", figure(Unit::Bytes, of("bytes")), bytes_text(limit))
        }
        _ => figure(Unit::Bytes, of("bytes")),
    };
    let alarm = |value: Option<f64>| {
        let is = value.is_some_and(|value| value > 0.0);
        if is {
            coloured(view, Color::Red).add_modifier(Modifier::BOLD)
        } else {
            bold()
        }
    };
    let whole = |name: &str| figure(Unit::Count, of(name));
    let groups = [
        vec![
            ("reads", rate(rates.reads), bold()),
            ("hits", share(rates.hit_ratio()), bold()),
            ("fresh", share(rates.fresh_ratio), bold()),
            ("stale", share(rates.stale_ratio), bold()),
            ("misses", rate(rates.misses), bold()),
            ("origin saved", format!("{} s/s", figure(Unit::Count, rates.origin_saved_seconds)), bold()),
            ("coalesced", rate(rates.coalesced), bold()),
        ],
        vec![
            ("memory", memory, bold()),
            ("entries", whole("entries"), bold()),
            ("tags", whole("tags"), bold()),
            ("writes", rate(rates.writes), bold()),
            ("evicted", rate(rates.evictions), bold()),
            ("expired", rate(rates.expired), bold()),
            ("invalidated", rate(rates.invalidated_entries), bold()),
            ("sweep backlog", whole("sweepQueued"), bold()),
        ],
        vec![
            ("leases", whole("leases"), bold()),
            ("locks", whole("locks"), bold()),
            ("waiters", whole("waiters"), bold()),
            ("breakers open", whole("openBreakers"), alarm(of("openBreakers"))),
            ("fills", rate(rates.fills), bold()),
            ("refused", rate(rates.refused_fills), bold()),
            ("failed", rate(rates.failed_fills), bold()),
            ("fill p50", seconds("fillTimes", "p50"), bold()),
            ("p99", seconds("fillTimes", "p99"), bold()),
        ],
    ];
    groups.into_iter().flat_map(|pairs| packed(pairs, usize::from(width))).collect()
}

/// A label, a figure, and how that is drawn, one behind the other; a new line where the
/// next does not fit.
fn packed(pairs: Vec<(&'static str, String, Style)>, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default()];
    for (label, value, style) in pairs {
        let pair = [Words::raw(label), Words::raw(" "), Words::styled(value, style)];
        let long: usize = pair.iter().map(Words::width).sum();
        match lines.last_mut() {
            Some(line) if line.width() == 0 => line.extend(pair),
            Some(line) if line.width() + 2 + long <= width => {
                line.push_span("  ");
                line.extend(pair);
            }
            _ => lines.push(Line::from(pair.to_vec())),
        }
    }
    lines
}

fn draw_past(view: &View, area: Rect, buffer: &mut Buffer) {
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    let most = view.past.iter().filter_map(|(_, reads)| *reads).fold(0.0, f64::max);
    let title = format!("reads/s, up to {}", count(most));
    // In steps of a thousandth: the curve takes whole numbers.
    let ratios = |(ratio, _): &Past| ratio.map(thousandths);
    let reads =
        |(_, reads): &Past| reads.map(|reads| thousandths(if most > 0.0 { reads / most } else { 0.0 }));
    curve(view, "hit ratio, 0 to 100 %".into(), &ratios, left, buffer);
    curve(view, title, &reads, right, buffer);
}

fn thousandths(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1000.0) as u64
}

type Past = (Option<f64>, Option<f64>);

fn curve(view: &View, title: String, of: &dyn Fn(&Past) -> Option<u64>, area: Rect, buffer: &mut Buffer) {
    // A gap is drawn as nothing.
    let newest = view.past.iter().rev().take(usize::from(area.width)).rev();
    let points: Vec<u64> = newest.map(|past| of(past).unwrap_or(0)).collect();
    let block = Block::new().borders(Borders::TOP).title(title);
    let curve = Sparkline::default().block(block).data(&points).max(1000);
    curve.style(coloured(view, Color::Cyan)).render(area, buffer);
}

fn tabs(view: &View) -> Line<'static> {
    let words = LISTS.into_iter().flat_map(|(list, title)| {
        let title = match list {
            List::HotKeys => format!("{title} by {}", view.by()),
            _ => title.to_string(),
        };
        if list == view.list {
            [Words::styled(format!("[{title}]"), bold()), Words::raw(" ")]
        } else {
            [Words::raw(format!(" {title} ")), Words::raw(" ")]
        }
    });
    Line::from(words.collect::<Vec<_>>())
}

fn table(view: &View, width: u16) -> Table<'static> {
    match view.list {
        List::Namespaces => namespaces(view, width),
        List::HotKeys => hot_keys(view),
        List::Nodes => nodes(view),
    }
}

fn right(text: String) -> Line<'static> {
    Line::from(text).right_aligned()
}

fn header(cells: Vec<Line<'static>>) -> Row<'static> {
    Row::new(cells).style(Style::new().add_modifier(Modifier::UNDERLINED))
}

fn namespaces(view: &View, width: u16) -> Table<'static> {
    // Those on the right go first where there is no room.
    let columns = usize::from(width.saturating_sub(NAME) / (FIGURE + 1)).clamp(1, COLUMNS.len());
    let mark = if view.turned { "▲" } else { "▼" };
    let marked = |title: &str, n: usize| {
        if n == view.sort {
            format!("{title}{mark}")
        } else {
            title.to_string()
        }
    };
    let titles = COLUMNS[..columns].iter().enumerate();
    let titles = titles.map(|(n, column)| right(marked(column.title, n + 1)));
    let head = [Line::from(marked("namespace", 0))].into_iter().chain(titles).collect();
    let rows = view.rows().into_iter().skip(view.above).map(|row| {
        let is_open = number(&row.now, "breakerOpen").is_some_and(|open| open > 0.0);
        let name = if row.name.is_empty() { "(none)".into() } else { tame(&row.name) };
        let name = if is_open { format!("{name} (breaker open)") } else { name };
        let style = if is_open { coloured(view, Color::Red) } else { Style::new() };
        let cell = |column: &Column| {
            let value = (column.of)(row);
            let is_full = column.title == "budget %" && value.is_some_and(|share| share > NEARLY);
            let style = if is_full { coloured(view, Color::Yellow) } else { Style::new() };
            Cell::from(right(figure(column.unit, value))).style(style)
        };
        let cells = COLUMNS[..columns].iter().map(cell);
        Row::new([Cell::from(name).style(style)].into_iter().chain(cells).collect::<Vec<_>>())
    });
    let widths = [Constraint::Fill(1)].into_iter().chain((0..columns).map(|_| Constraint::Length(FIGURE)));
    Table::new(rows.collect::<Vec<_>>(), widths.collect::<Vec<_>>()).header(header(head))
}

fn hot_keys(view: &View) -> Table<'static> {
    let by = view.span.now.by.clone();
    let unit = if by == "bytes" { Unit::Bytes } else { Unit::Count };
    let mut keys: Vec<&Value> = view.span.now.hot_keys.iter().collect();
    if view.turned {
        keys.reverse();
    }
    let rows = keys.into_iter().skip(view.above).map(|key| {
        let value = key.get("figure").and_then(Value::as_f64);
        Row::new([
            Line::from(tame(text(key, "key"))),
            right(figure(unit, value)),
            Line::from(tame(text(key, "node"))),
        ])
    });
    // The cost is the origin's time that the key has saved.
    let title = if by == "cost" { "cost (ms)".to_string() } else { by };
    let head = vec![Line::from("hot key"), right(title), Line::from("node")];
    let widths = [Constraint::Fill(2), Constraint::Length(FIGURE + 2), Constraint::Fill(1)];
    Table::new(rows.collect::<Vec<_>>(), widths).header(header(head))
}

fn nodes(view: &View) -> Table<'static> {
    let mut nodes: Vec<&Value> = view.span.now.nodes.iter().collect();
    if view.turned {
        nodes.reverse();
    }
    let rows = nodes.into_iter().skip(view.above).map(|node| {
        let number = |name: &str| node.get(name).and_then(Value::as_f64);
        let name = Line::from(tame(text(node, "node")));
        if !is_up(node) {
            let role = Line::from(text(node, "role").to_string());
            return Row::new([name, role, Line::from("down")]).style(coloured(view, Color::Red));
        }
        let memory = match number("memoryLimitBytes") {
            Some(limit) if limit > 0.0 => {
                format!("{} of {}", figure(Unit::Bytes, number("memoryBytes")), bytes_text(limit))
            }
            _ => figure(Unit::Bytes, number("memoryBytes")),
        };
        Row::new([
            name,
            Line::from(text(node, "role").to_string()),
            Line::from(tame(&format!("{} {}", text(node, "engine"), text(node, "version")))),
            right(memory),
            right(figure(Unit::Count, number("entries"))),
            right(figure(Unit::Bytes, number("bytes"))),
            right(figure(Unit::Count, number("sweepQueued"))),
            right(figure(Unit::Count, number("clients"))),
        ])
    });
    let titles = ["memory", "entries", "ours", "backlog", "clients"].map(|title| right(title.into()));
    let head = ["node", "role", "server"].map(Line::from).into_iter().chain(titles).collect();
    let widths = [Constraint::Fill(1), Constraint::Length(8), Constraint::Fill(1), Constraint::Length(20)];
    let widths = widths.into_iter().chain([9, FIGURE, 9, 8].map(Constraint::Length));
    Table::new(rows.collect::<Vec<_>>(), widths.collect::<Vec<_>>()).header(header(head))
}
