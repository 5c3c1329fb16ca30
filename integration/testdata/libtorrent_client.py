"""A libtorrent session for the tests.

usage: libtorrent_client.py seed|leech LISTEN TORRENT|LINK SAVE_DIR
           [--limit BYTES_PER_S] [--have 0110...] [--no-utp] [--peer IP:PORT]...
           [--set NAME=NUMBER]... [--dht IP:PORT]

Prints "ready" when a seeder seeds what it has (--have: a digit for each piece),
"done" when a leecher has everything. With --dht it uses the DHT, and asks that
node for others. Each line on standard input is answered by
the payload bytes uploaded so far; the end of standard input ends the program.
"""
import argparse
import os
import sys
import threading
import time

import libtorrent as lt


def parameters(args):
    if args.torrent.startswith("magnet:"):
        p = lt.parse_magnet_uri(args.torrent)
        p.save_path = args.save
        p.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
        return p
    p = lt.add_torrent_params()
    p.ti = lt.torrent_info(args.torrent)
    if args.mode == "seed":
        # The files are known to be right: say so by resume data, and nothing is hashed.
        n = p.ti.num_pieces()
        resume = {
            b"file-format": b"libtorrent resume file", b"file-version": 1,
            b"info-hash": p.ti.info_hash().to_bytes(), b"pieces": bytes(pieces(args, n)),
            b"save_path": args.save.encode(),
        }
        q = lt.read_resume_data(lt.bencode(resume))
        q.ti = p.ti
        # Resume data replaces the trackers of the torrent.
        q.trackers = [t.url for t in p.ti.trackers()]
        p = q
        if args.have:
            # It wants nothing more, and writes nothing.
            p.piece_priorities = [0] * n
            p.flags |= lt.torrent_flags.upload_mode
    p.save_path = args.save
    p.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    return p


def pieces(args, n):
    return [int(digit) for digit in args.have] if args.have else [1] * n


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("seed", "leech"))
    parser.add_argument("listen")
    parser.add_argument("torrent")
    parser.add_argument("save")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--have", default="")
    parser.add_argument("--no-utp", action="store_true")
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--dht", default="")
    args = parser.parse_args()
    settings = {
        "listen_interfaces": args.listen, "enable_dht": False, "enable_lsd": False,
        "enable_upnp": False, "enable_natpmp": False,
        "enable_outgoing_utp": not args.no_utp,
        "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.tracker_notification
        | lt.alert.category_t.peer_notification | lt.alert.category_t.status_notification,
    }
    if args.dht:
        # The tests' nodes are all of one network, which it would take for one node.
        settings.update({
            "enable_dht": True, "dht_bootstrap_nodes": args.dht,
            "dht_restrict_routing_ips": False, "dht_restrict_search_ips": False,
        })
    for setting in args.set:
        name, number = setting.split("=")
        settings[name] = type(settings.get(name, lt.default_settings()[name]))(int(number))
    session = lt.session(settings)
    handle = session.add_torrent(parameters(args))
    if args.limit:
        # The session's own limit does not hold for peers in the local network.
        handle.set_upload_limit(args.limit)
    while not handle.torrent_file():  # of a link
        time.sleep(0.05)
    n = handle.torrent_file().num_pieces()
    want = sum(pieces(args, n))
    checking = (lt.torrent_status.checking_files, lt.torrent_status.checking_resume_data)
    threading.Thread(target=lambda: answer(handle), daemon=True).start()
    connected = said = False
    while True:
        session.wait_for_alert(5 if args.peer else 50)
        for alert in session.pop_alerts():
            print(time.strftime("%H:%M:%S"), alert, file=sys.stderr, flush=True)
        status = handle.status()
        if status.state in checking:
            continue
        if not connected:  # libtorrent forgets peers that it is given while it checks
            connected = True
            for peer in args.peer:
                ip, port = peer.rsplit(":", 1)
                handle.connect_peer((ip, int(port)))
        if not said and status.num_pieces == want and (status.is_seeding or args.have):
            said = True
            print("ready" if args.mode == "seed" else "done", flush=True)


def answer(handle):
    for _ in sys.stdin:
        print("uploaded", handle.status().total_payload_upload, flush=True)
    os._exit(0)


main()
