//! The module's functions, decoded once: where instructions start, and where they lead.

use std::collections::{BTreeMap, HashMap};

use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, Instruction};

use super::module::{Module, Spot};
use crate::elf::{Place, Relocation, Section, SectionIndex, Symbol};

/// Code that alternatives jump to; it belongs to no function.
const OUT_OF_LINE: &str = ".altinstr_aux";
/// Code that alternatives are replaced by.
pub(super) const REPLACEMENTS: &str = ".altinstr_replacement";

/// A function, or a whole section of code without functions.
#[derive(Debug)]
pub(super) struct Body<'data> {
    pub(super) section: SectionIndex,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Its names; several for aliases, none for code that belongs to no function.
    pub(super) names: Vec<&'data str>,
}

impl<'data> Body<'data> {
    /// One of its names, for messages.
    pub(super) fn name(&self) -> &'data str {
        self.names.first().copied().unwrap_or_default()
    }

    /// Whether it is a part that the compiler cut out of another function.
    pub(super) fn is_part(&self) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name.contains(".cold"))
    }

    /// Whether code may jump from one into the middle of the other.
    pub(super) fn is_family(&self, other: &Self) -> bool {
        let whole = |name: &'data str| name.split(".cold").next().unwrap_or(name);
        self.names.is_empty()
            || other.names.is_empty()
            || self.names.iter().any(|name| {
                let mut others = other.names.iter();
                others.any(|other| whole(name) == whole(other))
            })
    }
}

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) instruction: Instruction,
    pub(super) constants: ConstantOffsets,
    /// The body it is in, as an index.
    pub(super) body: usize,
}

impl Step {
    pub(super) fn start(&self) -> u64 {
        self.instruction.ip()
    }

    pub(super) fn end(&self) -> u64 {
        self.instruction.next_ip()
    }

    pub(super) fn is_branch(&self) -> bool {
        self.instruction.is_call_near()
            || self.instruction.is_jmp_short_or_near()
            || self.instruction.is_jcc_short_or_near()
    }
}

/// Where a direct branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A place of this module.
    Own(Spot),
    /// So many bytes behind a symbol that is not this module's.
    Foreign(Relocation, i64),
    /// Nowhere that can be said: its relocation has no usable symbol.
    Lost,
}

/// A relocated field of code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) relocation: Relocation,
}

#[derive(Debug)]
pub(super) struct Code<'data> {
    pub(super) bodies: Vec<Body<'data>>,
    /// By section, in order of their places.
    steps: BTreeMap<SectionIndex, Vec<Step>>,
    pub(super) fields: HashMap<Spot, Field>,
    /// Where decoding stopped before a function's end.
    pub(super) undecodable: Vec<Spot>,
}

impl<'data> Code<'data> {
    pub(super) fn read(module: &Module<'data>) -> Self {
        let mut code = Self {
            bodies: bodies(module),
            steps: BTreeMap::new(),
            fields: fields(module),
            undecodable: Vec::new(),
        };
        for (number, body) in code.bodies.iter().enumerate() {
            let bytes = module.file.section(body.section).and_then(|section| {
                let length = body.end.checked_sub(body.start)?;
                section.bytes(body.start, length)
            });
            let steps = code.steps.entry(body.section).or_default();
            let mut decoder = Decoder::with_ip(
                64,
                bytes.unwrap_or_default(),
                body.start,
                DecoderOptions::NONE,
            );
            while decoder.can_decode() {
                let instruction = decoder.decode();
                if instruction.is_invalid() {
                    code.undecodable.push((body.section, instruction.ip()));
                    break;
                }
                steps.push(Step {
                    instruction,
                    constants: decoder.get_constant_offsets(&instruction),
                    body: number,
                });
            }
        }
        code
    }

    /// All instructions, in order of their places.
    pub(super) fn steps(&self) -> impl Iterator<Item = (SectionIndex, &Step)> {
        self.steps
            .iter()
            .flat_map(|(section, steps)| steps.iter().map(|step| (*section, step)))
    }

    /// The instruction that starts at `spot`.
    pub(super) fn step(&self, spot: Spot) -> Option<&Step> {
        let steps = self.steps.get(&spot.0)?;
        let number = steps.binary_search_by_key(&spot.1, Step::start).ok()?;
        steps.get(number)
    }

    /// The instruction that holds the byte at `spot`.
    pub(super) fn around(&self, spot: Spot) -> Option<&Step> {
        let steps = self.steps.get(&spot.0)?;
        let number = steps.partition_point(|step| step.start() <= spot.1);
        let step = steps.get(number.checked_sub(1)?)?;
        (spot.1 < step.end()).then_some(step)
    }

    /// The function, or code without one, that holds the byte at `spot`.
    pub(super) fn body_at(&self, spot: Spot) -> Option<&Body<'data>> {
        let number = self
            .bodies
            .partition_point(|body| (body.section, body.start) <= spot);
        let body = self.bodies.get(number.checked_sub(1)?)?;
        (body.section == spot.0 && spot.1 < body.end).then_some(body)
    }

    /// The function that starts at `spot`.
    pub(super) fn function_starting(&self, spot: Spot) -> Option<&Body<'data>> {
        self.body_at(spot)
            .filter(|body| body.start == spot.1 && !body.names.is_empty())
    }

    pub(super) fn body(&self, step: &Step) -> Option<&Body<'data>> {
        self.bodies.get(step.body)
    }

    /// Name of the function that `step` is in.
    pub(super) fn name(&self, step: &Step) -> &'data str {
        self.body(step).map(Body::name).unwrap_or_default()
    }

    /// The relocated field that ends an instruction, as the distance of a direct branch does.
    pub(super) fn distance(&self, section: SectionIndex, step: &Step) -> Option<&Field> {
        self.fields.get(&(section, step.end().checked_sub(4)?))
    }

    /// Where a direct branch leads, `None` for any other instruction.
    pub(super) fn target(
        &self,
        module: &Module<'data>,
        section: SectionIndex,
        step: &Step,
    ) -> Option<Target> {
        if !step.is_branch() {
            return None;
        }
        let Some(field) = self.distance(section, step) else {
            return Some(Target::Own((
                section,
                step.instruction.near_branch_target(),
            )));
        };
        let relocation = field.relocation;
        let Some(symbol) = module.file.symbol(relocation.symbol) else {
            return Some(Target::Lost);
        };
        let distance = relocation.addend.saturating_add(4);
        Some(match symbol.place {
            Place::Section(home) => match symbol.value.checked_add_signed(distance) {
                Some(value) => Target::Own((home, value)),
                None => Target::Lost,
            },
            Place::Undefined | Place::Livepatch => Target::Foreign(relocation, distance),
            Place::Absolute | Place::Common | Place::Reserved(_) => Target::Lost,
        })
    }

    /// Whether an instruction is a direct branch to a symbol whose name starts so.
    pub(super) fn leads_to(
        &self,
        module: &Module<'data>,
        section: SectionIndex,
        step: &Step,
        prefix: &str,
    ) -> bool {
        match self.target(module, section, step) {
            Some(Target::Foreign(relocation, 0)) => module.name_of(&relocation).starts_with(prefix),
            Some(Target::Foreign(..) | Target::Own(_) | Target::Lost) | None => false,
        }
    }
}

fn bodies<'data>(module: &Module<'data>) -> Vec<Body<'data>> {
    let mut bodies: Vec<Body<'data>> = Vec::new();
    for (&section, symbols) in module.functions() {
        let Some(home) = module.file.section(section) else {
            continue;
        };
        for symbol in symbols.iter().filter(|symbol| symbol.size > 0) {
            let Some(end) = end(home, symbol) else {
                continue;
            };
            // What starts inside another function is a second name for a part of it.
            match bodies.last_mut() {
                Some(last) if last.section == section && symbol.value < last.end => {
                    if last.start == symbol.value {
                        last.names.push(symbol.name);
                        last.end = last.end.max(end);
                    }
                }
                Some(_) | None => bodies.push(Body {
                    section,
                    start: symbol.value,
                    end,
                    names: vec![symbol.name],
                }),
            }
        }
    }
    for section in module.file.sections() {
        let nameless = [OUT_OF_LINE, REPLACEMENTS].contains(&section.name);
        if nameless && section.is_executable() && !module.functions().contains_key(&section.index) {
            bodies.push(Body {
                section: section.index,
                start: 0,
                end: section.data.len() as u64,
                names: Vec::new(),
            });
        }
    }
    bodies.sort_by_key(|body| (body.section, body.start));
    bodies
}

fn end(home: &Section<'_>, symbol: &Symbol<'_>) -> Option<u64> {
    let end = symbol.value.checked_add(symbol.size)?;
    (end <= home.data.len() as u64).then_some(end)
}

fn fields(module: &Module<'_>) -> HashMap<Spot, Field> {
    let mut fields = HashMap::new();
    for table in &module.tables {
        if !table.target.is_executable() {
            continue;
        }
        for relocation in table
            .entries
            .iter()
            .filter(|entry| entry.width() != Some(0))
        {
            let spot = (table.target.index, relocation.offset);
            let relocation = *relocation;
            fields.insert(spot, Field { relocation });
        }
    }
    fields
}
