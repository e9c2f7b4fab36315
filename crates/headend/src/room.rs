//! Room for connections: so many altogether, and only a part of them for one address. Shared by the listeners of meters and of pages.
//!
//! A connection counts for its address while it has not shown what it is good for: by MQTT until it has logged on, by HTTP as long as
//! it is open. When an address has no room left, its oldest connection that is doing nothing makes way, so that sockets which
//! somebody opened and left cannot keep the others of that address out.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Room for connections.
#[derive(Debug)]
pub struct Room {
    free: Arc<Semaphore>,
    max: usize,
    per_address_max: usize,
    counted: Mutex<HashMap<IpAddr, VecDeque<Counted>>>,
    next: AtomicU64,
}

/// A connection that counts for its address.
#[derive(Debug)]
struct Counted {
    id: u64,
    busy: Arc<AtomicUsize>,
    leave: oneshot::Sender<()>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// As many connections are open as may be.
    Full,
    /// The address holds as many as it may, and all of them are at work.
    AddressFull,
}

/// One connection's place; dropped, it is free again.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    address: IpAddr,
    id: u64,
    busy: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

/// Resolves when the connection must make way; never for one that no longer counts.
#[derive(Debug)]
pub struct MakeWay(Option<oneshot::Receiver<()>>);

/// A connection is at work as long as this lives.
#[derive(Debug)]
pub struct Busy(Arc<AtomicUsize>);

impl Room {
    /// Room for `max` connections, `per_address_max` of them of one address.
    pub fn new(max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(max)),
            max,
            per_address_max: per_address_max.max(1),
            counted: Mutex::default(),
            next: AtomicU64::new(0),
        })
    }

    /// Connections now.
    pub fn taken(&self) -> usize {
        self.max.saturating_sub(self.free.available_permits())
    }

    /// Most connections.
    pub fn max(&self) -> usize {
        self.max
    }

    /// A place for a connection from `address`.
    ///
    /// # Errors
    /// When there is none.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<(Place, MakeWay), NoRoom> {
        let address = household(address);
        let mut counted = self.counted();
        let own = counted.entry(address).or_default();
        if own.len() >= self.per_address_max {
            let oldest = own.iter().position(|other| other.busy.load(Relaxed) == 0).ok_or(NoRoom::AddressFull)?;
            if let Some(other) = own.remove(oldest) {
                // One that is ending by itself does not mind.
                let _ = other.leave.send(());
            }
        }
        let place = self.place(address);
        let Ok(place) = place else {
            if own.is_empty() {
                counted.remove(&address);
            }
            return Err(NoRoom::Full);
        };
        let (leave, make_way) = oneshot::channel();
        own.push_back(Counted { id: place.id, busy: place.busy.clone(), leave });
        Ok((place, MakeWay(Some(make_way))))
    }

    /// A place for a connection that does not count for its address, for instance of a proxy.
    ///
    /// # Errors
    /// When there is none.
    pub fn enter_uncounted(self: &Arc<Self>, address: IpAddr) -> Result<(Place, MakeWay), NoRoom> {
        Ok((self.place(household(address))?, MakeWay(None)))
    }

    /// Lets all that count for their address make way: at the stop of a listener nobody waits for them.
    pub fn clear(&self) {
        for other in self.counted().drain().flat_map(|(_, own)| own) {
            let _ = other.leave.send(());
        }
    }

    fn place(self: &Arc<Self>, address: IpAddr) -> Result<Place, NoRoom> {
        let permit = self.free.clone().try_acquire_owned().map_err(|_| NoRoom::Full)?;
        let id = self.next.fetch_add(1, Relaxed);
        Ok(Place { room: self.clone(), address, id, busy: Arc::default(), _permit: permit })
    }

    fn counted(&self) -> MutexGuard<'_, HashMap<IpAddr, VecDeque<Counted>>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Grows by one with every connection.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// From now on the connection does not count for its address and need not make way.
    pub fn settle(&self) {
        let mut counted = self.room.counted();
        if let Some(own) = counted.get_mut(&self.address) {
            own.retain(|other| other.id != self.id);
            if own.is_empty() {
                counted.remove(&self.address);
            }
        }
    }

    /// While what this returns lives, the connection does not make way.
    pub fn work(&self) -> Busy {
        self.busy.fetch_add(1, Relaxed);
        Busy(self.busy.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl MakeWay {
    /// Waits until the connection must make way.
    pub async fn wait(self) {
        let asked = match self.0 {
            Some(asked) => asked.await.is_ok(),
            None => false,
        };
        if !asked {
            std::future::pending::<()>().await;
        }
    }
}

/// What counts as one address: of IPv6 the /64, which is what one household or host gets.
pub fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[tokio::test]
    async fn the_oldest_idle_connection_of_an_address_makes_way() {
        let room = Room::new(10, 2);
        let (first, first_way) = room.enter(address(1)).expect("room");
        let at_work = first.work();
        let (second, second_way) = room.enter(address(1)).expect("room");
        let (third, _way) = room.enter(address(1)).expect("the second makes way");
        second_way.wait().await;
        drop(second);
        let third_at_work = third.work();
        assert_eq!(room.enter(address(1)).err(), Some(NoRoom::AddressFull), "all are at work");
        assert!(room.enter(address(2)).is_ok(), "another address is not concerned");
        drop((at_work, third_at_work));
        let (_fourth, _way) = room.enter(address(1)).expect("the first is idle now");
        first_way.wait().await;
        drop((first, third));
        assert_eq!(room.taken(), 1);
    }

    #[tokio::test]
    async fn who_has_settled_counts_no_more_and_the_total_holds() {
        let room = Room::new(3, 1);
        let mut settled = Vec::new();
        for _ in 0..3 {
            let (place, _way) = room.enter(address(1)).expect("room");
            place.settle();
            settled.push(place);
        }
        assert_eq!(room.enter(address(2)).err(), Some(NoRoom::Full));
        settled.pop();
        assert!(room.enter(address(2)).is_ok());
        assert!(room.counted().is_empty(), "nothing is remembered of those who left");
    }

    #[test]
    fn a_household_of_ipv6_is_one_address() {
        let text = |text: &str| household(text.parse().expect("an address"));
        assert_eq!(text("2001:db8::1"), text("2001:db8::ffff:1"));
        assert_ne!(text("2001:db8::1"), text("2001:db8:0:1::1"));
        assert_eq!(text("::ffff:192.0.2.1"), address(1));
    }
}
