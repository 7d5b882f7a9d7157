//! Which of a container's networks does what: has the default route, carries the published ports. Pure.

use super::options;
use crate::request::Attachment;
use tare_model::network::{Driver, Network};
use tare_network::EndpointPlan;

/// Which of a container's networks, by their place in the list, does what only one can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Has the default route of IPv4.
    pub(crate) v4: Option<usize>,
    /// Has the default route of IPv6.
    pub(crate) v6: Option<usize>,
    /// Published ports lead to the container's addresses there.
    pub(crate) carrier: Option<usize>,
}

impl Shape {
    /// Decides for these networks, in the order in which they were asked for. Of those with a way outside the one with
    /// the highest priority has the default route, the first among equals. Published ports belong where the answers
    /// leave: on the network with the default route, if it is a bridge.
    pub(crate) fn of(places: &[(&Attachment, &Network)]) -> Shape {
        let outside = |n: &Network, v4: bool| {
            let subnet = if v4 { n.v4() } else { n.v6() };
            let way_out = subnet.and_then(|s| EndpointPlan::way_out(n, s));
            way_out.is_some() && !options::no_default_route(&n.options)
        };
        let best = |fits: &dyn Fn(&Network) -> bool| {
            let fitting = places.iter().enumerate().filter(|(_, (_, network))| fits(network));
            fitting.min_by_key(|(i, (attachment, _))| (-i64::from(attachment.gw_priority), *i)).map(|(i, _)| i)
        };
        let (v4, v6) = (best(&|n| outside(n, true)), best(&|n| outside(n, false)));
        let bridge = |n: &Network| n.driver == Driver::Bridge && !n.internal;
        let leaves = [v4, v6].into_iter().flatten().find(|i| bridge(places[*i].1));
        Shape { v4, v6, carrier: leaves.or_else(|| best(&bridge)) }
    }

    /// Whether the network at this place has the default route of the family.
    pub(crate) fn leads_out(&self, place: usize, v4: bool) -> bool {
        (if v4 { self.v4 } else { self.v6 }) == Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::testing::network;

    fn shape(places: &[(i32, &Network)]) -> (Option<usize>, Option<usize>, Option<usize>) {
        let attachments: Vec<_> =
            places.iter().map(|(p, _)| Attachment { gw_priority: *p, ..Attachment::default() }).collect();
        let places: Vec<_> = attachments.iter().zip(places.iter().map(|(_, n)| *n)).collect();
        let s = Shape::of(&places);
        (s.v4, s.v6, s.carrier)
    }

    #[test]
    fn the_first_network_with_a_way_outside_leads_unless_another_has_priority() {
        let both = network("a", &["10.1.0.0/24", "fd00:1::/64"]);
        let v4 = network("b", &["10.2.0.0/24"]);
        let internal = Network { internal: true, ..network("c", &["10.3.0.0/24", "fd00:3::/64"]) };
        let macvlan = Network { driver: Driver::Macvlan, device: None, ..network("d", &["10.4.0.0/24"]) };
        let mut routed = Network { driver: Driver::Ipvlan, mode: Some("l3".into()), ..macvlan.clone() };
        routed.parent = Some("lan0".into());
        routed.subnets[0].gateway = None;
        let mut aside = network("e", &["10.5.0.0/24", "fd00:5::/64"]);
        aside.options.insert("no_default_route".into(), "true".into());
        assert_eq!(shape(&[(0, &both), (0, &v4)]), (Some(0), Some(0), Some(0)));
        assert_eq!(shape(&[(0, &v4), (0, &both)]), (Some(0), Some(1), Some(0)));
        assert_eq!(shape(&[(0, &both), (1, &v4)]), (Some(1), Some(0), Some(1)));
        assert_eq!(shape(&[(-1, &both), (i32::MIN, &v4)]), (Some(0), Some(0), Some(0)));
        assert_eq!(shape(&[(9, &internal), (0, &both)]), (Some(1), Some(1), Some(1)));
        assert_eq!(shape(&[(0, &internal)]), (None, None, None));
        assert_eq!(shape(&[(0, &macvlan), (0, &internal)]), (Some(0), None, None));
        assert_eq!(shape(&[(0, &macvlan), (0, &both)]), (Some(0), Some(1), Some(1)));
        assert_eq!(shape(&[(0, &routed), (0, &v4)]), (Some(0), None, Some(1)));
        assert_eq!(shape(&[(5, &aside), (0, &v4)]), (Some(1), None, Some(1)));
        assert_eq!(shape(&[(0, &aside)]), (None, None, Some(0)));
        assert_eq!(shape(&[]), (None, None, None));
    }
}
