//! Judged by LVM2 itself: what its tools made, what they think of our changes, and what damage does.

mod damage;
mod grow;
mod kinds;
mod read;
mod support;
