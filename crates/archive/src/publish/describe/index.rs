//! What changes in a kernel's index.

use std::collections::BTreeMap;

use tuxtape_core::rollout::Waves;

use super::file_text;
use crate::index::{
    IndexedFix, IndexedKernel, KernelIndex, Level, OnWithdraw, Support, Unpatchable, Withdrawn,
};
use crate::metadata::TargetFile;

type Files = BTreeMap<String, TargetFile>;

/// Compares an index with the one before, in both directions.
pub(super) fn index_changes(
    new: &KernelIndex,
    files: &Files,
    old: Option<(&KernelIndex, &Files)>,
) -> Vec<String> {
    let KernelIndex {
        format: _,
        arch: _,
        release: _,
        created,
        kernels,
        notes,
    } = new;
    let mut lines = Vec::new();
    // Clients believe no earlier clock than this.
    if old.is_none_or(|(old, _)| old.created != *created) {
        lines.push(format!("the index was made at {created}"));
    }
    for kernel in kernels {
        let before = old.and_then(|(old, files)| Some((old.kernel(&kernel.build_id)?, files)));
        let build = kernel.build_id.short();
        let changes = kernel_changes(kernel, files, before);
        lines.extend(
            changes
                .into_iter()
                .map(|change| format!("build {build}: {change}")),
        );
    }
    for kernel in old.iter().flat_map(|(old, _)| &old.kernels) {
        if new.kernel(&kernel.build_id).is_none() {
            lines.push(format!("build {} leaves", kernel.build_id.short()));
        }
    }
    if old.map_or(!notes.is_empty(), |(old, _)| old.notes != *notes) {
        lines.push("the notes change".to_owned());
    }
    lines
}

fn kernel_changes(
    new: &IndexedKernel,
    files: &Files,
    old: Option<(&IndexedKernel, &Files)>,
) -> Vec<String> {
    let IndexedKernel {
        build_id: _,
        base_version,
        vermagic,
        support,
        floor,
        levels: _,
        fixes,
        withdrawn,
        unpatchable,
    } = new;
    let before = old.map(|(before, _)| before);
    let mut lines = Vec::new();
    if before.is_none() {
        lines.push(format!("new, vermagic {vermagic:?}"));
    }
    if let Some(before) = before.filter(|before| before.vermagic != *vermagic) {
        lines.push(format!(
            "vermagic is {vermagic:?}, was {:?}",
            before.vermagic
        ));
    }
    if before.map_or(base_version.is_some(), |b| b.base_version != *base_version) {
        let version = base_version.as_deref().unwrap_or("unknown");
        lines.push(format!("base version is {version}"));
    }
    lines.extend(level_changes(new, files, old));
    lines.extend(both_ways(fixes, before.map(|b| &b.fixes), fix_text));
    let earlier = before.map(|b| &b.withdrawn);
    lines.extend(both_ways(withdrawn, earlier, withdrawn_text));
    let earlier = before.map(|b| &b.unpatchable);
    lines.extend(both_ways(unpatchable, earlier, unpatchable_text));
    if before.map_or(floor.0 != 1, |before| before.floor != *floor) {
        lines.push(format!("floor is level {floor}"));
    }
    if before.is_none_or(|before| before.support != *support) {
        let Support { state, until } = support;
        let until = until.as_deref().unwrap_or("no date");
        lines.push(format!("support is {state:?}, until {until}"));
    }
    lines
}

fn level_changes(
    new: &IndexedKernel,
    files: &Files,
    old: Option<(&IndexedKernel, &Files)>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let text = |files: &Files, target: &str| {
        files
            .get(target)
            .map_or_else(|| "no file".to_owned(), file_text)
    };
    for level in &new.levels {
        let file = text(files, &level.target);
        let earlier = old.and_then(|(old, files)| {
            let found = old.levels.iter().find(|other| other.level == level.level)?;
            Some((found, text(files, &found.target)))
        });
        let Level {
            level: number,
            target: _,
            created: _,
            module,
            module_build_id: id,
            srcversion: _,
            unsigned_sha256: _,
            signer_skid,
            waves,
        } = level;
        let signer = signer_skid.as_deref().unwrap_or("nobody");
        let waves = waves_text(waves.as_ref());
        match earlier {
            None => lines.push(format!(
                "level {number} comes, module {module}, build-id {id}, signed for the kernel by {signer}, {waves}, with {file}"
            )),
            Some((earlier, before)) if earlier != level || before != file => lines.push(format!(
                "level {number} is another now, module {module}, build-id {id}, signed for the kernel by {signer}, {waves}, with {file}"
            )),
            Some(_) => {}
        }
    }
    let gone = old.into_iter().flat_map(|(old, _)| &old.levels);
    for level in gone.filter(|gone| new.levels.iter().all(|level| level.level != gone.level)) {
        lines.push(format!("level {} leaves", level.level));
    }
    lines
}

/// Says who gets the level when.
fn waves_text(waves: Option<&Waves>) -> String {
    let Some(waves) = waves else {
        return "open to every node at once".to_owned();
    };
    let steps = waves.steps.iter().map(|step| {
        let (whole, tenth) = (step.permille / 10, step.permille % 10);
        format!(
            "{} {whole}.{tenth} % by {}",
            step.name,
            waves.start.plus(step.to)
        )
    });
    let steps: Vec<String> = steps.collect();
    let urgent = if waves.urgent { ", urgent" } else { "" };
    format!("open from {}{urgent}: {}", waves.start, steps.join(", "))
}

/// Says what comes and what goes.
fn both_ways<T: PartialEq>(
    new: &[T],
    old: Option<&Vec<T>>,
    text: impl Fn(&T) -> String,
) -> Vec<String> {
    let old = old.map_or(&[][..], Vec::as_slice);
    let gone = old.iter().filter(|entry| !new.contains(entry));
    let come = new.iter().filter(|entry| !old.contains(entry));
    gone.map(|entry| format!("no longer said: {}", text(entry)))
        .chain(come.map(&text))
        .collect()
}

fn fix_text(fix: &IndexedFix) -> String {
    let IndexedFix {
        cve,
        commit,
        fix_sha256,
        since,
        until,
        expires,
    } = fix;
    let mut text = cve
        .as_ref()
        .or(commit.as_ref())
        .map_or("a fix", |n| n)
        .to_owned();
    text.push_str(&format!(" closed from level {since}"));
    if let Some(until) = until {
        text.push_str(&format!(" until level {until}"));
    }
    if let Some(expires) = expires {
        text.push_str(&format!(", a hotfix to be looked at again by {expires}"));
    }
    let details = [("commit", commit), ("source change", fix_sha256)];
    for (name, value) in details {
        if let Some(value) = value.as_ref().filter(|value| !text.starts_with(*value)) {
            text.push_str(&format!(", {name} {value}"));
        }
    }
    text
}

fn withdrawn_text(entry: &Withdrawn) -> String {
    let Withdrawn {
        level,
        sha256,
        on_withdraw,
        reason,
        at,
    } = entry;
    let then = match on_withdraw {
        OnWithdraw::Revert => "nodes leave it",
        OnWithdraw::Keep => "nodes keep it until they boot",
    };
    format!("level {level} withdrawn at {at}, {then}: {reason} (sha256 {sha256})")
}

fn unpatchable_text(entry: &Unpatchable) -> String {
    let Unpatchable { cve, why } = entry;
    format!("{cve} cannot be livepatched: {why}")
}
