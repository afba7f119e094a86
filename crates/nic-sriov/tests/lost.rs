//! What a comparison makes of settings that one of the two drivers does not report.

#[cfg(test)]
mod tests {
    use nic_netlink::{EncapMode, Eswitch, EswitchMode, InlineMode, Setting};
    use nic_sriov::{
        Attribute, Difference, Gravity, NicState, OfedAttributes, PfState, VfNetdev, VfState, compare,
    };

    const PLAIN: Eswitch = Eswitch { mode: EswitchMode::Switchdev, inline_mode: None, encap_mode: None };

    fn node(eswitch: Option<Eswitch>, rate_group: Setting<u32>) -> NicState {
        let vf = VfState {
            index: 0,
            address: None,
            driver: None,
            driver_override: None,
            admin: Setting::NotThere,
            ofed: OfedAttributes { trunk: Setting::NotThere, rate_group },
            rdma: Setting::NotThere,
            netdev: VfNetdev::Unbound,
        };
        let pf = PfState {
            address: "pci/0000:01:00.0".parse().unwrap(),
            pci_id: None,
            driver: Some("mlx5_core".to_owned()),
            total_vfs: Some(1),
            num_vfs: 1,
            drivers_autoprobe: None,
            eswitch: eswitch.map_or(Setting::NotThere, Setting::Set),
            netdev: Setting::NotThere,
            rdma: Setting::NotThere,
            vfs: vec![vf],
            representors: Vec::new(),
        };
        NicState { pfs: vec![pf], ..NicState::default() }
    }

    fn plain(eswitch: Option<Eswitch>) -> NicState {
        node(eswitch, Setting::NotThere)
    }

    fn told(saved: &NicState, found: &NicState) -> Vec<(Attribute, Gravity)> {
        let differences: Vec<Difference> = compare(saved, found);
        differences.into_iter().map(|difference| (difference.attribute, difference.gravity)).collect()
    }

    #[test]
    fn fault_2_6_what_only_the_new_driver_reports_was_not_there_before() {
        let reports =
            Eswitch { inline_mode: Some(InlineMode::Transport), encap_mode: Some(EncapMode::Basic), ..PLAIN };
        assert_eq!(told(&plain(Some(PLAIN)), &plain(Some(reports))), []);
        // What the old one reported is missed.
        assert_eq!(
            told(&plain(Some(reports)), &plain(Some(PLAIN))),
            [(Attribute::EswitchInlineMode, Gravity::Wrong), (Attribute::EswitchEncapMode, Gravity::Wrong)]
        );
        let group = |rate_group| node(None, rate_group);
        assert_eq!(told(&group(Setting::NotThere), &group(Setting::Set(3))), []);
    }

    #[test]
    fn switchdev_is_lost_with_an_eswitch_and_legacy_is_not() {
        let legacy = Eswitch { mode: EswitchMode::Legacy, ..PLAIN };
        for (saved, gravity) in [(PLAIN, Gravity::Wrong), (legacy, Gravity::Unsupported)] {
            let differences = told(&plain(Some(saved)), &plain(None));
            assert_eq!(differences, [(Attribute::EswitchMode, gravity)]);
        }
    }

    #[test]
    fn a_rate_group_is_missed_where_the_new_driver_keeps_nothing_of_a_vf() {
        let expected = [(Attribute::OfedRateGroup, Gravity::Unsupported)];
        assert_eq!(told(&node(None, Setting::Set(3)), &plain(None)), expected);
        assert_eq!(told(&node(None, Setting::NotSet), &plain(None)), []);
    }
}
