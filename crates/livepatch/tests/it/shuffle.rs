//! Puts the sections and symbols of an object into another order, which changes nothing of what it says.

const HEADER: usize = 64;
const SYMBOL: usize = 24;
const RELOCATION: usize = 24;

const SHT_SYMTAB: u32 = 2;
const SHT_RELA: u32 = 4;
const SHT_GROUP: u32 = 17;
const SHT_SYMTAB_SHNDX: u32 = 18;
const SHF_INFO_LINK: u64 = 0x40;
const SHN_LORESERVE: u16 = 0xff00;

/// Numbers that look random and are the same for the same seed (xorshift).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.next() % (last as u64 + 1)).expect("a small number");
            items.swap(last, other);
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn size_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64_at(bytes, at)).expect("a small object")
}

fn put_u16(bytes: &mut [u8], at: usize, value: usize) {
    let value = u16::try_from(value).expect("a small number");
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put_u32(bytes: &mut [u8], at: usize, value: usize) {
    let value = u32::try_from(value).expect("a small number");
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// The section headers of an object.
struct Table {
    start: usize,
    count: usize,
}

impl Table {
    fn of(object: &[u8]) -> Self {
        let count = usize::from(u16_at(object, 0x3c));
        assert!(count > 0, "an object with a plain section table");
        Self {
            start: size_at(object, 0x28),
            count,
        }
    }

    fn header(&self, index: usize) -> usize {
        self.start + index * HEADER
    }

    /// Section headers of one type, as offsets in the file.
    fn of_type(&self, object: &[u8], kind: u32) -> Vec<usize> {
        (0..self.count)
            .map(|index| self.header(index))
            .filter(|&header| u32_at(object, header + 4) == kind)
            .collect()
    }
}

/// Where a section's bytes are.
fn content(object: &[u8], header: usize) -> (usize, usize) {
    (size_at(object, header + 24), size_at(object, header + 32))
}

/// Returns `object` with the headers of its sections in another order.
pub(crate) fn sections(object: &[u8], random: &mut Random) -> Vec<u8> {
    let table = Table::of(object);
    assert!(
        table.of_type(object, SHT_SYMTAB_SHNDX).is_empty(),
        "an object with few sections"
    );
    // The first header is none.
    let mut order: Vec<usize> = (1..table.count).collect();
    random.shuffle(&mut order);
    order.insert(0, 0);
    let mut place = vec![0; table.count];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
    }
    let moved = |index: u32| place[usize::try_from(index).expect("a small number")];
    let mut changed = object.to_vec();
    for (new, &old) in order.iter().enumerate() {
        let from = table.header(old);
        let to = table.header(new);
        changed[to..to + HEADER].copy_from_slice(&object[from..from + HEADER]);
        put_u32(&mut changed, to + 40, moved(u32_at(object, from + 40)));
        let kind = u32_at(object, from + 4);
        if kind == SHT_RELA || u64_at(object, from + 8) & SHF_INFO_LINK != 0 {
            put_u32(&mut changed, to + 44, moved(u32_at(object, from + 44)));
        }
    }
    for header in table.of_type(object, SHT_SYMTAB) {
        let (start, size) = content(object, header);
        for symbol in (start..start + size).step_by(SYMBOL) {
            let section = u16_at(object, symbol + 6);
            if section < SHN_LORESERVE {
                put_u16(&mut changed, symbol + 6, moved(u32::from(section)));
            }
        }
    }
    for header in table.of_type(object, SHT_GROUP) {
        let (start, size) = content(object, header);
        for member in (start + 4..start + size).step_by(4) {
            put_u32(&mut changed, member, moved(u32_at(object, member)));
        }
    }
    put_u16(&mut changed, 0x3e, moved(u32::from(u16_at(object, 0x3e))));
    changed
}

/// Returns `object` with its symbols in another order; local ones stay before the others.
pub(crate) fn symbols(object: &[u8], random: &mut Random) -> Vec<u8> {
    let table = Table::of(object);
    let tables = table.of_type(object, SHT_SYMTAB);
    let [symtab] = tables.as_slice() else {
        panic!("an object with one symbol table");
    };
    let (start, size) = content(object, *symtab);
    let count = size / SYMBOL;
    let locals = usize::try_from(u32_at(object, symtab + 44)).expect("a small number");
    let mut order: Vec<usize> = (0..count).collect();
    random.shuffle(&mut order[1..locals]);
    random.shuffle(&mut order[locals..]);
    let mut place = vec![0; count];
    let mut changed = object.to_vec();
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
        let (from, to) = (start + old * SYMBOL, start + new * SYMBOL);
        changed[to..to + SYMBOL].copy_from_slice(&object[from..from + SYMBOL]);
    }
    let moved = |index: u32| place[usize::try_from(index).expect("a small number")];
    for header in table.of_type(object, SHT_RELA) {
        let (start, size) = content(object, header);
        for relocation in (start..start + size).step_by(RELOCATION) {
            let symbol = relocation + 12;
            put_u32(&mut changed, symbol, moved(u32_at(object, symbol)));
        }
    }
    for header in table.of_type(object, SHT_GROUP) {
        put_u32(
            &mut changed,
            header + 44,
            moved(u32_at(object, header + 44)),
        );
    }
    changed
}

/// Both.
pub(crate) fn shuffled(object: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let object = sections(object, &mut random);
    symbols(&object, &mut random)
}
