//! The sockets of the cluster's bus, made to send at once.
//!
//! The servers open their links without `TCP_NODELAY` (valkey-io/valkey#1758),
//! and what answers a message comes over another link: with Nagle's algorithm
//! a second message within 40 ms waits until the kernel on the other side
//! acknowledges the first. So a thread of ours looks once a second for sockets
//! that go to a node's bus port, and sets the option. It touches nothing else
//! of the process: a descriptor that is closed and opened anew meanwhile gets,
//! at worst, an option that the servers give all their other sockets.

use std::os::raw::{c_int, c_void};
use std::time::Duration;

use parking_lot::Mutex;

/// The bus ports of the other nodes.
static PORTS: Mutex<Vec<u16>> = Mutex::new(Vec::new());

const PERIOD: Duration = Duration::from_secs(1);

/// Says which ports the links go to.
pub fn set_ports(ports: Vec<u16>) {
    *PORTS.lock() = ports;
}

/// Begins to look after the links; nothing where no thread can be had.
pub fn look_after() {
    let name = "cacheflow-bus".to_owned();
    let begun = std::thread::Builder::new().name(name).stack_size(256 << 10).spawn(|| loop {
        std::thread::sleep(PERIOD);
        let ports = PORTS.lock().clone();
        if !ports.is_empty() {
            hurry(&ports);
        }
    });
    drop(begun);
}

fn hurry(ports: &[u16]) {
    // No such directory: no Linux, or none that shows it. Then it is as the
    // server left it.
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    for entry in open.flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<c_int>().ok()) else {
            continue;
        };
        if peer_port(fd).is_some_and(|port| ports.contains(&port)) {
            let on: c_int = 1;
            // SAFETY: the option is an integer of that length; a descriptor
            // that is no TCP socket is an error without effect.
            unsafe {
                libc::setsockopt(
                    fd,
                    libc::IPPROTO_TCP,
                    libc::TCP_NODELAY,
                    std::ptr::from_ref(&on).cast::<c_void>(),
                    size_of::<c_int>() as libc::socklen_t,
                );
            }
        }
    }
}

/// The port on the other side; `None` of what is no connected IP socket.
fn peer_port(fd: c_int) -> Option<u16> {
    // SAFETY: a C struct of integers, for which zeros are valid, large enough
    // for every address; the server writes no more than its length.
    let (address, done) = unsafe {
        let mut address: libc::sockaddr_storage = std::mem::zeroed();
        let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let place = std::ptr::from_mut(&mut address).cast::<libc::sockaddr>();
        let done = libc::getpeername(fd, place, &mut len);
        (address, done)
    };
    let place = std::ptr::from_ref(&address);
    match c_int::from(address.ss_family) {
        _ if done != 0 => None,
        // SAFETY: the family says which address it is; the storage is aligned
        // for all of them.
        libc::AF_INET => Some(u16::from_be(unsafe { (*place.cast::<libc::sockaddr_in>()).sin_port })),
        // SAFETY: as above.
        libc::AF_INET6 => Some(u16::from_be(unsafe { (*place.cast::<libc::sockaddr_in6>()).sin6_port })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn links_to_a_port_are_hurried_and_others_are_not() {
        let listener = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let (bus, other) = (listener(), listener());
        let connect =
            |to: &TcpListener| TcpStream::connect(to.local_addr().expect("bound")).expect("connected");
        let (link, client) = (connect(&bus), connect(&other));
        hurry(&[bus.local_addr().expect("bound").port()]);
        assert!(link.nodelay().expect("a socket"));
        assert!(!client.nodelay().expect("a socket"));
        assert_eq!(peer_port(-1), None);
    }
}
