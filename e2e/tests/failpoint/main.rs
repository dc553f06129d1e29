//! Workers that are held at a failpoint, and what befalls them there.

mod end;
mod worker;
mod zombie;
