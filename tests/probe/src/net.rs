//! Who reaches whom: a server that tells each client what address it sees, and a client that asks.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer may take, on a slow machine, too.
const PATIENCE: Duration = Duration::from_secs(5);
/// An address has no more characters.
const LONGEST: usize = 64;

/// Answers at a port over TCP and UDP, and both families, until it is killed; `ready` is called once
/// it can be asked.
///
/// # Errors
///
/// If the port cannot be had.
pub fn tell_clients(port: u16, ready: impl FnOnce()) -> io::Result<()> {
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let (listener, socket) = (TcpListener::bind(everywhere)?, UdpSocket::bind(everywhere)?);
    ready();
    thread::spawn(move || {
        let mut asked = [0; LONGEST];
        while let Ok((_, client)) = socket.recv_from(&mut asked) {
            let _ = socket.send_to(name(client).as_bytes(), client);
        }
    });
    loop {
        let (mut stream, client) = listener.accept()?;
        let _ = stream.write_all(name(client).as_bytes());
    }
}

/// Asks each of `servers`, `ADDRESS:PORT` over TCP or `udp:ADDRESS:PORT`, what address it sees us
/// under; nothing if it does not answer.
#[must_use]
pub fn ask(servers: &[String]) -> BTreeMap<String, Option<String>> {
    let asked: Vec<_> = servers
        .iter()
        .cloned()
        .map(|server| thread::spawn(move || (seen_by(&server).ok(), server)))
        .collect();
    let answers = asked.into_iter().filter_map(|asking| asking.join().ok());
    answers.map(|(answer, server)| (server, answer)).collect()
}

fn seen_by(server: &str) -> io::Result<String> {
    let (is_udp, address) = match server.strip_prefix("udp:") {
        Some(address) => (true, address),
        None => (false, server),
    };
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    if is_udp {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(address)?;
        socket.send(b"?")?;
        let mut said = [0; LONGEST];
        let length = socket.recv(&mut said)?;
        return Ok(String::from_utf8_lossy(&said[..length]).into_owned());
    }
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

fn name(client: SocketAddr) -> String {
    let address: IpAddr = client.ip().to_canonical();
    address.to_string()
}

/// How long a server may take to be there.
const WARM_UP: Duration = Duration::from_secs(20);
/// How much is written and read at a time, in bytes.
const PIECE: usize = 256 * 1024;

/// Writes to a server as fast as it goes, for so many seconds; the server may come later.
///
/// # Errors
///
/// If it does not come, or goes.
pub fn pour(server: &str, seconds: u64) -> io::Result<()> {
    let began = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(server) {
            Ok(stream) => break stream,
            Err(error) if began.elapsed() > WARM_UP => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    };
    let (piece, end) = (vec![0; PIECE], Instant::now() + Duration::from_secs(seconds));
    while Instant::now() < end {
        stream.write_all(&piece)?;
    }
    Ok(())
}

/// Reads all that one client writes; returns how many millions of bytes came in a second.
///
/// # Errors
///
/// If nobody can come, or whoever came goes too early.
pub fn drain(port: u16) -> io::Result<f64> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    let (mut stream, _) = listener.accept()?;
    let (mut piece, mut bytes, began) = (vec![0; PIECE], 0_u64, Instant::now());
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            length => bytes += length as u64,
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "of a rate, three digits matter")]
    Ok(bytes as f64 / 1e6 / began.elapsed().as_secs_f64())
}
