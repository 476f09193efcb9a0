//! DNS messages: read to an end; what is answered fits, and answers its question.
#![no_main]

use names::wire::{self, Data, Query};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = wire::addresses(bytes);
    if let Ok(query) = Query::parse(bytes) {
        let _ = wire::reversed(&query.name);
        let data = [Data::Address([10, 0, 0, 1].into()), Data::Name(query.name.clone())];
        let answer = query.answer(bytes, wire::code::GOOD, &data, query.room);
        assert!(answer.len() <= query.room);
        assert!(query.is_answered_by(bytes, u16::from_be_bytes([bytes[0], bytes[1]]), &answer));
        assert!(wire::addresses(&answer).is_some());
    }
});
