//! The screen, as ratatui's own backend for tests has it.

use super::draw::{draw, page};
use super::reading::{Fields, Reading};
use super::view::View;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use ratatui::Terminal;
use serde_json::{json, Value};

fn fields(of: Value) -> Fields {
    of.as_object().cloned().expect("an object")
}

fn reading(at: u64, up: bool) -> Reading {
    let sums = |times: u64| {
        let n = at * times;
        json!({
            "hits": 9 * n, "staleHits": 0, "misses": n, "originSavedSeconds": n as f64 / 500.0,
            "fills": n, "failedFills": 0, "evictions": 0, "expired": 0, "entries": 1234,
        })
    };
    let namespace = |name: &str, times: u64, bytes: u64, open: Option<u64>| {
        let mut row = sums(times);
        row["namespace"] = json!(name);
        row["bytes"] = json!(bytes);
        row["limitBytes"] = json!(2_000_000);
        row["breakerOpen"] = json!(open);
        fields(row)
    };
    let mut all = sums(3);
    let more = json!({
        "atMs": at, "kind": "cluster", "failure": null, "bytes": 3_000_000, "limitBytes": 8_000_000,
        "openBreakers": 1, "leases": 2, "locks": 0, "waiters": 7, "sweepQueued": 40,
    });
    all.as_object_mut().expect("an object").append(&mut fields(more));
    let node = json!({
        "node": "10.0.0.1:7000", "role": "primary", "up": true, "engine": "valkey", "version": "9.1.0",
        "memoryBytes": 5_000_000, "memoryLimitBytes": 10_000_000, "entries": 1234, "bytes": 3_000_000,
        "sweepQueued": 40, "clients": 12,
    });
    let other =
        json!({ "node": "10.0.0.2:7001", "role": "replica", "up": up, "error": "no answer within 2000 ms" });
    Reading {
        overview: fields(all),
        namespaces: vec![namespace("page", 1, 1_900_000, None), namespace("shop", 2, 100, Some(1))],
        leases: fields(json!({ "fillTimes": { "p50": 0.0123, "p99": 1.5 } })),
        nodes: vec![node, other],
        by: "cost".into(),
        hot_keys: vec![
            json!({ "key": "page:/\u{1b}[31m", "figure": 120_000, "node": "10.0.0.1:7000" }),
            json!({ "key": "shop:7", "figure": 5, "node": "10.0.0.1:7000" }),
        ],
    }
}

fn looked_at(plain: bool) -> View {
    let mut view = View::new(plain);
    for at in [1000, 2000, 4000] {
        view.take(reading(at, false));
    }
    view
}

fn screen(view: &View, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(view, frame.area(), frame.buffer_mut())).expect("drawn");
    terminal
}

fn lines(view: &View, width: u16, height: u16) -> Vec<String> {
    let terminal = screen(view, width, height);
    let cells = terminal.backend().buffer().content();
    let text = |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect::<String>();
    cells.chunks(usize::from(width)).map(|row| text(row).trim_end().to_string()).collect()
}

/// The line that has this, in one piece.
fn line<'a>(lines: &'a [String], what: &str) -> &'a str {
    lines.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {lines:#?}"))
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn the_sums_and_the_namespaces() {
    let lines = lines(&looked_at(true), 130, 24);
    assert_eq!(
        lines[0],
        "cacheflow top  cluster, 1 of 2 nodes answer  10.0.0.2:7001: no answer within 2000 ms"
    );
    // 30 reads a ms, of 2000 ms in one second of two.
    assert!(lines[1].starts_with("reads 30.0k/s  hits 90.0 %  fresh 90.0 %  stale 0.0 %  misses 3000/s"));
    assert!(lines[1].contains("origin saved 6 s/s"), "{}", lines[1]);
    assert!(lines[2].starts_with("memory 3.0 MB of 8.0 MB  entries 1234"), "{}", lines[2]);
    assert!(lines[3].contains("waiters 7  breakers open 1"), "{}", lines[3]);
    assert!(lines[3].contains("fill p50 12.3 ms  p99 1.5 s"), "{}", lines[3]);
    assert!(line(&lines, "[Namespaces]").contains("Hot keys by hits"));
    assert_eq!(words(line(&lines, "namespace "))[1], "reads/s▼");
    let page = words(line(&lines, "page"));
    assert_eq!(page, ["page", "10.0k", "90.0", "0.0", "2", "1000", "0", "1234", "1.9", "MB", "95.0", "0"]);
    let place = |what: &str| lines.iter().position(|line| line.contains(what));
    assert!(place("shop (breaker open)") < place("page  "), "the busier one first: {lines:#?}");
    assert!(line(&lines, "q quit").contains("? help"));
}

#[test]
fn the_other_lists() {
    let mut view = looked_at(true);
    let press = |view: &mut View, code| assert!(view.press(KeyEvent::new(code, KeyModifiers::NONE)));
    press(&mut view, KeyCode::Char('2'));
    let shown = lines(&view, 100, 24);
    assert_eq!(words(line(&shown, "hot key")), ["hot", "key", "cost", "(ms)", "node"]);
    let key = line(&shown, "page:/");
    assert!(key.starts_with("page:/\\u{1b}[31m") && key.contains("120.0k"), "{key}");
    press(&mut view, KeyCode::Char('3'));
    let shown = lines(&view, 100, 24);
    let up = line(&shown, "10.0.0.1:7000 ");
    assert!(up.contains("valkey 9.1.0") && up.contains("5.0 MB of 10.0 MB"), "{up}");
    let down = shown.iter().rfind(|line| line.contains("10.0.0.2:7001")).expect("a row");
    assert_eq!(words(down), ["10.0.0.2:7001", "replica", "down"]);
    press(&mut view, KeyCode::Down);
    assert!(!lines(&view, 100, 24).iter().any(|line| line.contains("10.0.0.1:7000")), "scrolled");
    press(&mut view, KeyCode::Char('?'));
    assert!(line(&lines(&view, 100, 24), "Keys").contains('┌'));
    press(&mut view, KeyCode::Char('p'));
    assert!(lines(&view, 100, 24)[0].ends_with("paused"));
}

#[test]
fn before_anybody_has_answered_and_in_any_size() {
    let shown = lines(&View::new(true), 100, 24);
    assert_eq!(shown[0], "cacheflow top  asking");
    assert!(shown[1].starts_with("reads –/s  hits – %"), "{}", shown[1]);
    let mut view = looked_at(false);
    for help in [false, true] {
        view.help = help;
        for (width, height) in [(1, 1), (3, 40), (20, 6), (80, 24), (400, 100), (200, 2)] {
            screen(&view, width, height);
        }
    }
}

#[test]
fn nothing_is_cut_off_where_it_is_narrow() {
    let shown = lines(&looked_at(true), 60, 24);
    for what in ["coalesced –/s", "sweep backlog 40", "p99 1.5 s", "[Namespaces]", "reads/s▼"] {
        assert!(!line(&shown, what).is_empty());
    }
    assert!(shown.iter().all(|line| line.chars().count() <= 60));
}

#[test]
fn colours_where_they_are_wanted() {
    let colours = |plain| {
        let terminal = screen(&looked_at(plain), 130, 24);
        let cells = terminal.backend().buffer().content().iter();
        cells
            .filter(|cell| cell.fg != Color::Reset)
            .map(|cell| cell.fg)
            .collect::<std::collections::HashSet<_>>()
    };
    assert!(colours(true).is_empty());
    assert_eq!(colours(false), [Color::Red, Color::Yellow, Color::Cyan].into());
}

#[test]
fn as_a_page() {
    let text = page(looked_at(true), 130);
    for what in ["1 of 2 nodes", "reads 30.0k/s", "shop (breaker open)", "page:/", "7001: no answer"] {
        assert!(text.contains(what), "{what}:\n{text}");
    }
    assert!(text.lines().all(|line| !line.is_empty() && line.trim_end() == line));
}
