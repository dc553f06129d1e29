//! Files as customers see them: names, framing, parts and checksums.
