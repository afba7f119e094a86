use super::*;
use crate::report::tests::{began, ended};
use crate::state::{JournalEvent, Phase, Step, StepOutcome};

/// What a hostile device, process or package may be called.
const HOSTILE: &str = "<script>alert('\"&\"')</script> | `x` \u{1b}[31m\n# **b**";

fn hostile() -> Report {
    let step = || Step::Run { command: format!("{HOSTILE}{}", "w".repeat(300)), purpose: Default::default() };
    let events: [JournalEvent; 3] = [
        began(0, Phase::Reload, None),
        began(5, Phase::Reload, Some(step())),
        ended(90, Phase::Reload, step(), StepOutcome::Failed, Some(HOSTILE)),
    ];
    Report::of(&events)
}

#[test]
fn text_is_never_wider_than_a_hundred_columns() {
    let told = text(&hostile(), Detail::All);
    for line in told.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        assert_eq!(line.trim_end(), line);
    }
}

#[test]
fn what_is_foreign_is_no_markup() {
    let page = html(&hostile());
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
    assert!(!page.contains('\u{1b}'));
    let ticket = markdown(&hostile());
    assert!(
        !ticket.contains("<script") && !ticket.contains('\u{1b}') && !ticket.contains(" | `x`"),
        "{ticket}"
    );
}

/// Both a night with all that a page can have, and one with hostile names.
fn pages() -> [String; 3] {
    let night = include_str!("../../../../../fixtures/documented-night/state/journal.jsonl");
    let events: Vec<JournalEvent> = night.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let night = Report::of(&events);
    [html(&night), html(&hostile()), comparison_html(&night.compare(1, 1).unwrap())]
}

#[test]
fn a_page_needs_nothing_else() {
    for page in pages() {
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<iframe", "<link"]
        {
            assert!(!page.contains(outside), "{outside}");
        }
        let policy = "http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"";
        assert!(page.contains(policy));
    }
}

#[test]
fn a_page_is_well_formed() {
    for page in pages() {
        ensure_well_formed(&page);
    }
}

/// Each element that is begun is ended, in order; each attribute is quoted; nothing but entities begins with an ampersand.
fn ensure_well_formed(page: &str) {
    const EMPTY: [&str; 2] = ["meta", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some((text, after)) = rest.split_once('<') {
        ensure_entities(text);
        let (tag, next) = after.split_once('>').expect("a tag has an end");
        rest = next;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "before {}", &next[..next.len().min(80)]);
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        for (number, part) in tag.split('"').enumerate() {
            assert!(number % 2 == 1 || !part.contains(['&', '\'']), "{tag}");
            ensure_entities(part);
        }
        if !tag.ends_with('/') && !EMPTY.contains(&name) {
            open.push(name);
        }
        if name == "style" {
            let (_, after) = rest.split_once("</style>").expect("a style has an end");
            rest = after;
            open.pop();
        }
    }
    assert_eq!(rest.trim(), "");
    assert_eq!(open, Vec::<&str>::new());
}

fn ensure_entities(text: &str) {
    for entity in text.split('&').skip(1) {
        let (name, _) = entity.split_once(';').expect("an entity has an end");
        assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "&{name};");
    }
}
