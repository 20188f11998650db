//! What each reference of a travelling piece becomes.

use object::elf;
use tuxtape_core::identity::ObjectName;

use super::{Builder, Link, Outside, PLACEHOLDER, Piece};
use crate::elf::{Binding, Relocation, SectionIndex};
use crate::meaning;
use crate::refusal::Rule;
use crate::tables::Role;
use crate::unit::{AtomId, Class, Target};

impl Builder<'_, '_> {
    pub(super) fn link(&mut self, section: SectionIndex, relocation: &Relocation) -> Link {
        let bias = self.unit.bias(section, relocation);
        match self.unit.target(section, relocation) {
            Target::Outside { symbol, .. } => {
                let name = self.unit.symbol(symbol).name;
                self.link_outside(section, name, relocation.addend)
            }
            Target::Absolute(value) => Link::Relocation {
                symbol: 0,
                addend: value.saturating_sub(bias),
            },
            Target::Lost {
                section: home,
                offset,
            } => {
                let name = self.unit.section(home).name;
                self.refuse(
                    Rule::Unknown,
                    name,
                    format!("reference to unnamed content at {offset:#x}"),
                )
            }
            Target::Content {
                section: home,
                offset,
            } => self.link_content(home, offset, bias),
            Target::Atom { atom, offset } => {
                self.link_atom(section, relocation, atom, offset, bias)
            }
        }
    }

    pub(super) fn link_atom(
        &mut self,
        section: SectionIndex,
        relocation: &Relocation,
        to: AtomId,
        offset: i64,
        bias: i64,
    ) -> Link {
        let atom = self.unit.atom(to);
        let from_table = matches!(self.unit.class(section), Class::Table(_));
        let original = self.comparison.pairing.original_of(to);
        let travels = self.comparison.travels.contains(&to);
        // A pointer may outlive this module in a timer, a list or an ops table: let it name the
        // original, which ftrace redirects for as long as the module is in force.
        let pointer = !from_table
            && atom.is_code()
            && offset == 0
            && !self.unit.is_branch(section, relocation);
        // What runs under a weak name may be another unit's function: the kernel knows which.
        let spoken = self.unit.symbol(relocation.symbol);
        let by_kernel = pointer || spoken.binding == Binding::Weak;
        if travels && !(by_kernel && original.is_some()) {
            let symbol = self.atom_symbol.get(&to).copied().unwrap_or(0);
            // The symbol is the section's, which begins with the padding.
            let padding = i64::try_from(atom.entry.saturating_sub(atom.start)).unwrap_or(i64::MAX);
            return Link::Relocation {
                symbol,
                addend: offset.saturating_add(padding).saturating_sub(bias),
            };
        }
        let Some(original) = original else {
            return self.refuse(Rule::Unknown, atom.name, "is new but does not travel");
        };
        if atom.is_code() && offset != 0 {
            return self.refuse(Rule::Unknown, atom.name, "is entered in the middle");
        }
        let body = self.comparison.original.atom(original);
        let mut names: Vec<(&str, i64)> = body
            .symbols
            .iter()
            .map(|&symbol| {
                let symbol = self.comparison.original.symbol(symbol);
                // A name may stand for a place further in.
                let inside = symbol.value.saturating_sub(body.entry);
                (symbol.name, i64::try_from(inside).unwrap_or(i64::MAX))
            })
            .collect();
        // Of several names of one place the link may have given one to another unit's definition.
        names.sort_by_key(|(name, _)| *name != spoken.name);
        let addend = offset.saturating_sub(bias);
        if let Some((name, inside)) = names
            .iter()
            .find(|(name, _)| body.global && self.surroundings.exports(name))
        {
            let symbol = self.undefined(name);
            let addend = addend.saturating_sub(*inside);
            return Link::Relocation { symbol, addend };
        }
        let known = |(name, inside): &(&str, i64)| Some((self.surroundings.own(name)?, *inside));
        let Some((symbol, inside)) = names.iter().find_map(known) else {
            return self.refuse(
                Rule::Unresolved,
                atom.name,
                format!("is not in {} under this name", self.surroundings.parent()),
            );
        };
        let parent = self.surroundings.parent().clone();
        let addend = addend.saturating_sub(inside);
        self.placeholder(section, &parent, &symbol.name, symbol.position, addend)
    }

    pub(super) fn link_outside(&mut self, section: SectionIndex, name: &str, addend: i64) -> Link {
        match self.surroundings.outside(name) {
            Outside::Exported { namespace } => {
                self.namespaces.extend(namespace);
                Link::Relocation {
                    symbol: self.undefined(name),
                    addend,
                }
            }
            Outside::Candidate => Link::Relocation {
                symbol: self.undefined(name),
                addend,
            },
            Outside::Parent { position } => {
                let parent = self.surroundings.parent().clone();
                self.placeholder(section, &parent, name, position, addend)
            }
            Outside::Module { module, position } => {
                if !self.original_needs.contains(name) {
                    return self.refuse(
                        Rule::NewDependency,
                        name,
                        format!("is exported by module {module}, which this unit did not need"),
                    );
                }
                self.placeholder(section, &module, name, position, addend)
            }
            Outside::Unreachable(what) => self.refuse(Rule::Unresolved, name, what),
        }
    }

    /// A reference that the livepatch core resolves when the patched object is there.
    pub(super) fn placeholder(
        &mut self,
        section: SectionIndex,
        owner: &ObjectName,
        name: &str,
        position: u32,
        addend: i64,
    ) -> Link {
        let parent = self.surroundings.parent();
        if let Class::Table(table) = self.unit.class(section)
            && !parent.is_vmlinux()
        {
            // The kernel reads these tables when our module loads, before the patched module's
            // symbols can be resolved. A tracepoint or static call site may stay as compiled:
            // the tracepoint is off, the call goes through its trampoline.
            let harmless = match table.role {
                Role::JumpLabel => name.starts_with("__tracepoint_"),
                Role::StaticCall => name.starts_with("__SCK__tp_func_"),
                Role::Derived
                | Role::Bug
                | Role::Exception
                | Role::Alternative { .. }
                | Role::Paravirt => false,
            };
            if harmless {
                self.warnings
                    .push(format!("{name} stays off in the patched function"));
                return Link::Drop;
            }
            return self.refuse(
                Rule::ModuleKey,
                name,
                format!(
                    "is owned by {owner} and used by an entry of {}",
                    table.section
                ),
            );
        }
        let too_long = name.len() >= 512 || owner.0.len() > 55 || parent.0.len() > 55;
        if too_long || name.contains([',', '!']) || owner.0.contains(['.', '!']) {
            return self.refuse(
                Rule::Names,
                name,
                "does not fit the kernel's livepatch symbol format",
            );
        }
        let stand_in = format!("{PLACEHOLDER}{parent}!{owner}!{position}!{name}");
        Link::Relocation {
            symbol: self.undefined(&stand_in),
            addend,
        }
    }

    pub(super) fn link_content(&mut self, home: SectionIndex, offset: u64, bias: i64) -> Link {
        let body = *self.unit.section(home);
        let found = match self.unit.class(home) {
            Class::Strings => body.text(offset).map(|(text, inside)| {
                let place = self.literal(".rodata.strings", body.alignment, text.to_vec());
                (place, inside)
            }),
            Class::Constants => {
                meaning::constant(body.entry_size, offset).and_then(|(start, end)| {
                    let bytes = body.bytes(start, end.saturating_sub(start))?.to_vec();
                    Some((
                        self.literal(".rodata.constants", body.alignment, bytes),
                        offset - start,
                    ))
                })
            }
            Class::Chunks => self.chunk(home, offset).map(|place| (place, 0)),
            Class::Ignored
            | Class::Code
            | Class::Data
            | Class::Table(_)
            | Class::OrcAddresses
            | Class::OrcEntries
            | Class::Init
            | Class::Fixed => None,
        };
        match found {
            Some(((out, at), inside)) => Link::Relocation {
                symbol: self.section_symbol(out),
                addend: i64::try_from(at.saturating_add(inside))
                    .unwrap_or(i64::MAX)
                    .saturating_sub(bias),
            },
            None => self.refuse(
                Rule::Unknown,
                body.name,
                format!("reference to its byte {offset:#x} is not understood"),
            ),
        }
    }

    pub(super) fn literal(&mut self, pool: &str, alignment: u64, bytes: Vec<u8>) -> (usize, u64) {
        let name = if alignment > 1 {
            format!("{pool}.{alignment}")
        } else {
            pool.to_owned()
        };
        let out = self.pool(&name, elf::SHT_PROGBITS.0, elf::SHF_ALLOC.0, alignment);
        if let Some(&at) = self.literals.get(&(out, bytes.clone())) {
            return (out, at);
        }
        let at = self.append(out, alignment, &bytes);
        self.literals.insert((out, bytes), at);
        (out, at)
    }

    /// A block of `.altinstr_aux`, copied once.
    pub(super) fn chunk(&mut self, home: SectionIndex, offset: u64) -> Option<(usize, u64)> {
        if let Some(&place) = self.chunks.get(&(home, offset)) {
            return Some(place);
        }
        let end = self.unit.chunk_end(home, offset)?;
        let out = self.pool_like(home);
        let bytes = self.unit.bytes(home, offset, end).to_vec();
        let at = self.append(out, 1, &bytes);
        // Known before its references are linked: a block may jump within itself.
        self.chunks.insert((home, offset), (out, at));
        self.pieces.push(Piece {
            section: home,
            start: offset,
            end,
            out,
            out_start: at,
        });
        self.copy_relocations(home, offset, end, out, at);
        Some((out, at))
    }
}

#[cfg(test)]
mod tests {
    use crate::diff::compare;
    use crate::elf::fixture::{ALLOC, Fixture, R_PC32, R_PLT32, RELA, TEXT, WRITE};
    use crate::elf::{Binding, ElfFile, Relocation};
    use crate::emit::{Anywhere, emit};
    use crate::tables::layout_for;

    /// A function that reads `inner`, which lies eight bytes into `outer`.
    fn unit(last: u8) -> Vec<u8> {
        let mut fixture = Fixture::new(1);
        #[rustfmt::skip]
        let code = [
            0xe8, 0, 0, 0, 0,          // call __fentry__
            0x8b, 0x05, 0, 0, 0, 0,    // mov inner(%rip), %eax
            0xb0, last, 0xc3,
        ];
        let text = fixture.section(".text.f", TEXT, &code);
        let data = fixture.section(".data.outer", ALLOC | WRITE, &[0; 16]);
        fixture.function("f", text, 0, 14, Binding::Local);
        fixture.object("outer", data, 0, 16, Binding::Global);
        let inner = fixture.object("inner", data, 8, 8, Binding::Global);
        let fentry = fixture.undefined("__fentry__");
        let entry = |offset, symbol, kind| Relocation {
            offset,
            symbol,
            kind,
            addend: -4,
        };
        let entries = [entry(1, fentry, R_PLT32), entry(7, inner, R_PC32)];
        fixture.relocations(".rela.text.f", RELA, text, &entries);
        fixture.build()
    }

    #[test]
    fn a_name_inside_of_another_is_counted_from_its_own_place() {
        let (before, after) = (unit(1), unit(2));
        let tables = layout_for(6, 1).unwrap();
        let comparison = compare("f.c", &before, &after, tables).unwrap();
        let emitted = emit(&comparison, &Anywhere, "0").unwrap();
        let object = ElfFile::parse(&emitted.object).unwrap();
        let text = object.section_named(".text.f").unwrap();
        let table = object.relocation_sections(text.index).next().unwrap();
        let entries = object.relocations(table).unwrap();
        let read = entries.iter().find(|entry| entry.offset == 7).unwrap();
        let name = object.symbol(read.symbol).unwrap().name;
        assert!(name.ends_with("!inner"), "{name}");
        assert_eq!(read.addend, -4);
    }
}
