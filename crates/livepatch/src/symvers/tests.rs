use super::*;

#[test]
fn lines_come_back_with_objects_as_the_kernel_names_them() {
    let text = b"0x0a2d4668\tinit_uts_ns\tvmlinux\tEXPORT_SYMBOL_GPL\t\n\
        0xffffffff\tsnd_pcm_new\tsound/core/snd-pcm\tEXPORT_SYMBOL\tSND\n\
        0x1\told\tvmlinux\tEXPORT_SYMBOL\n";
    let symvers = Symvers::parse(text).unwrap();
    assert_eq!(symvers.exports.len(), 3);
    assert_eq!(
        symvers.get("init_uts_ns"),
        Some(&Export {
            crc: 0x0a2d_4668,
            object: ObjectName("vmlinux".to_owned()),
            export_type: ExportType::Gpl,
            namespace: None,
        })
    );
    assert_eq!(
        symvers.get("snd_pcm_new"),
        Some(&Export {
            crc: u32::MAX,
            object: ObjectName("snd_pcm".to_owned()),
            export_type: ExportType::Any,
            namespace: Some("SND".to_owned()),
        })
    );
}

#[test]
fn a_wrong_line_is_named_by_its_number() {
    fn check(line: &str, why: &'static str) {
        let text = format!("0x1\tgood\tvmlinux\tEXPORT_SYMBOL\t\n{line}\n");
        assert_eq!(
            Symvers::parse(text.as_bytes()),
            Err(MalformedSymvers::Line { line: 2, why })
        );
    }
    let crc = "CRC is not a hexadecimal number of 32 bits";
    check("1\tx\tvmlinux\tEXPORT_SYMBOL\t", crc);
    check("0x1ffffffff\tx\tvmlinux\tEXPORT_SYMBOL\t", crc);
    check("0x+1\tx\tvmlinux\tEXPORT_SYMBOL\t", crc);
    check("\tx", "no CRC");
    check("0x1", "no symbol");
    check("0x1\tx", "no object");
    check("0x1\tx\tvmlinux", "no export type");
    check(
        "0x1\tx\tvmlinux\tEXPORT_UNUSED_SYMBOL\t",
        "unknown export type",
    );
    check(
        "0x1\tx\tvmlinux\tEXPORT_SYMBOL\t\t",
        "more than five columns",
    );
    check(
        "0x2\tgood\tvmlinux\tEXPORT_SYMBOL\t",
        "symbol exported twice",
    );
}

#[test]
fn too_large_a_file_is_refused_unread() {
    let bytes = vec![0xff; SIZE_LIMIT + 1];
    assert_eq!(
        Symvers::parse(&bytes),
        Err(MalformedSymvers::Size(SIZE_LIMIT + 1))
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    assert_eq!(
        Symvers::parse(b"0x1\t\xff\tvmlinux\tEXPORT_SYMBOL\t"),
        Err(MalformedSymvers::Line {
            line: 1,
            why: "not UTF-8"
        })
    );
}
