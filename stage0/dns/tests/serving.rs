//! The server as a client sees it, over real sockets on loopback, with resolvers that answer, lie, and
//! are silent.

#![allow(clippy::unwrap_used, reason = "test code outside of `#[test]`")]

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dns::message::{INTERNET, kind, wire};
use dns::{Directory, Listener, Named, Resolvers, Server};

struct Pods;

impl Directory for Pods {
    fn named(&self) -> io::Result<Vec<Named>> {
        let many = (0..200).map(|last| IpAddr::from([10, 88, 1, last])).collect();
        Ok(vec![
            Named { name: "shop".into(), addresses: vec![IpAddr::from([10, 88, 0, 2])] },
            Named { name: "many".into(), addresses: many },
        ])
    }
}

/// A server that ends when nothing was asked for half a second.
struct Serving {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn serve(upstream: &[SocketAddr]) -> Serving {
    let listeners = Listener::bind(loopback()).unwrap();
    let address = listeners[0].address().unwrap();
    let resolvers = Resolvers::Fixed(upstream.to_vec());
    let server = Server::new(listeners.into(), Box::new(Pods), resolvers).unwrap();
    let thread = thread::spawn(move || server.serve(Some(Duration::from_millis(500))).unwrap());
    Serving { address, thread }
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&wire(name).unwrap());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&INTERNET.to_be_bytes());
    bytes
}

fn by_udp(server: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind(loopback()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    socket.send_to(question, server).unwrap();
    let mut answer = vec![0; 65_535];
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

fn by_tcp(server: SocketAddr, questions: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(server).unwrap();
    let ask = |question: &Vec<u8>| {
        let length = u16::try_from(question.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, &question[..]].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        answer
    };
    questions.iter().map(ask).collect()
}

/// An answer to `question` with `filling` bytes behind it.
fn answered(question: &[u8], flags: u8, code: u8, filling: usize) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] = 0x81 | flags;
    answer[3] = 0x80 | code;
    answer.resize(question.len() + filling, 0x55);
    answer
}

/// A resolver that says what `say` makes of each question, from its own address; it ends with the test.
fn resolver(say: impl Fn(&UdpSocket, &[u8], SocketAddr) + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind(loopback()).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer) {
            say(&socket, &buffer[..length], asker);
        }
    });
    address
}

#[test]
fn pods_are_found_by_datagram_and_by_connection() {
    let serving = serve(&[]);
    let asked = question("shop.pod", kind::A);
    let answer = by_udp(serving.address, &asked).unwrap();
    assert!(answer.ends_with(&[10, 88, 0, 2]));
    assert_eq!(by_tcp(serving.address, &[asked.clone(), asked]), [answer.clone(), answer]);
}

#[test]
fn what_is_too_long_for_a_datagram_comes_by_connection() {
    let serving = serve(&[]);
    let asked = question("many", kind::A);
    let answer = by_udp(serving.address, &asked).unwrap();
    assert!(answer.len() <= 512 && answer[2] & 2 != 0);
    let whole = &by_tcp(serving.address, &[asked])[0];
    assert_eq!((whole[7], whole[2] & 2), (200, 0));
}

#[test]
fn other_questions_are_passed_on_under_other_ids_from_other_ports() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let upstream = resolver(move |socket, asked, asker| {
        noted.lock().unwrap().push((asker.port(), [asked[0], asked[1]]));
        socket.send_to(&answered(asked, 0, 0, 20), asker).unwrap();
    });
    let serving = serve(&[upstream]);
    let asked = question("example.com", kind::A);
    for _ in 0..8 {
        let answer = by_udp(serving.address, &asked).unwrap();
        assert_eq!((&answer[..2], answer.len()), (&asked[..2], asked.len() + 20));
    }
    let mut seen = seen.lock().unwrap();
    assert!(seen.iter().filter(|(_, id)| *id == [7, 9]).count() < 2, "the asker's id is not used");
    seen.sort_unstable();
    seen.dedup_by_key(|(port, _)| *port);
    assert!(seen.len() > 4, "ports repeat: {seen:?}");
}

#[test]
fn lies_are_passed_over_until_the_truth_comes() {
    let upstream = resolver(|socket, asked, asker| {
        let truth = answered(asked, 0, 0, 9);
        let mut wrong_id = truth.clone();
        wrong_id[0] ^= 0x80;
        let mut wrong_name = truth.clone();
        wrong_name[14] ^= 0x01;
        let stranger = UdpSocket::bind(loopback()).unwrap();
        stranger.send_to(&answered(asked, 0, 0, 1), asker).unwrap();
        for lie in [&wrong_id[..], &wrong_name, asked, &truth[..5], &[]] {
            socket.send_to(lie, asker).unwrap();
        }
        socket.send_to(&truth, asker).unwrap();
    });
    let serving = serve(&[upstream]);
    let asked = question("example.com", kind::A);
    assert_eq!(by_udp(serving.address, &asked).unwrap().len(), asked.len() + 9);
}

#[test]
fn one_that_cannot_is_not_the_last_word_while_another_can() {
    let unable = resolver(|socket, asked, asker| {
        socket.send_to(&answered(asked, 0, 2, 0), asker).unwrap();
    });
    let able = resolver(|socket, asked, asker| {
        socket.send_to(&answered(asked, 0, 3, 0), asker).unwrap();
    });
    let closed = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    let serving = serve(&[closed, unable, able]);
    let asked = question("example.com", kind::A);
    assert_eq!(by_udp(serving.address, &asked).unwrap()[3] & 15, 3, "no such name is an answer");
    let serving = serve(&[unable]);
    assert_eq!(by_udp(serving.address, &asked).unwrap()[3] & 15, 2);
}

#[test]
fn what_was_cut_off_is_fetched_by_connection_for_who_came_by_one() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let socket = UdpSocket::bind(listener.local_addr().unwrap()).unwrap();
    let upstream = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer) {
            socket.send_to(&answered(&buffer[..length], 2, 0, 0), asker).unwrap();
        }
    });
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut asked = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut asked).unwrap();
        let answer = answered(&asked, 0, 0, 3000);
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, &answer[..]].concat()).unwrap();
    });
    let serving = serve(&[upstream]);
    let asked = question("example.com", kind::A);
    assert_eq!(by_udp(serving.address, &asked).unwrap()[2] & 2, 2);
    let whole = &by_tcp(serving.address, std::slice::from_ref(&asked))[0];
    assert_eq!((whole.len(), whole[2] & 2), (asked.len() + 3000, 0));
}

#[test]
fn silent_resolvers_hold_up_no_question_about_pods_and_only_so_many_others() {
    let heard = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&heard);
    let upstream = resolver(move |_, _, _| {
        noted.fetch_add(1, Ordering::Relaxed);
    });
    let serving = serve(&[upstream]);
    let flood = UdpSocket::bind(loopback()).unwrap();
    flood.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    for number in 0..200 {
        let name = format!("{number}.example.com");
        flood.send_to(&question(&name, kind::A), serving.address).unwrap();
    }
    let begun = Instant::now();
    assert!(by_udp(serving.address, &question("shop", kind::A)).unwrap().ends_with(&[2]));
    assert!(begun.elapsed() < Duration::from_secs(1), "it waited for others");
    let mut refused = [0; 512];
    flood.recv(&mut refused).unwrap();
    assert_eq!(refused[3] & 15, 2);
    assert!(begun.elapsed() < Duration::from_secs(1), "what is too much is told at once");
    assert!(heard.load(Ordering::Relaxed) <= 32, "one asker has no more than its share");
    // The share, two rounds of one and a half seconds; then nothing is left, and the server ends.
    serving.thread.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[test]
fn two_servers_that_ask_each_other_come_to_an_end() {
    let first = Listener::bind(loopback()).unwrap();
    let second = Listener::bind(loopback()).unwrap();
    let addresses = [first[0].address().unwrap(), second[0].address().unwrap()];
    let pairs = [(first, addresses[1]), (second, addresses[0])];
    for (listeners, other) in pairs {
        let resolvers = Resolvers::Fixed(vec![other]);
        let server = Server::new(listeners.into(), Box::new(Pods), resolvers).unwrap();
        thread::spawn(move || server.serve(Some(Duration::from_millis(500))).unwrap());
    }
    let begun = Instant::now();
    let answer = by_udp(addresses[0], &question("example.com", kind::A)).unwrap();
    assert_eq!(answer[3] & 15, 2);
    assert!(begun.elapsed() < Duration::from_secs(5), "it went round: {:?}", begun.elapsed());
}

#[test]
fn a_connection_that_says_nothing_keeps_nobody_else_out() {
    let serving = serve(&[]);
    let silent: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(serving.address).unwrap()).collect();
    // Connections beyond the share of one asker are closed at once.
    let closed = silent.iter().filter(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        matches!((&mut &**stream).read(&mut [0]), Ok(0))
    });
    assert_eq!(closed.count(), 12);
    assert!(by_udp(serving.address, &question("shop", kind::A)).is_some());
}

#[test]
fn a_server_ends_when_nothing_is_asked() {
    let serving = serve(&[]);
    let begun = Instant::now();
    serving.thread.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3));
}
