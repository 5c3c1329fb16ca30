"""A libtorrent session for the tests.

usage: libtorrent_client.py seed|leech LISTEN TORRENT SAVE_DIR [upload bytes/s]

Prints "ready" when a seeder seeds, "done" when a leecher has everything.
Each line on standard input is answered by the payload bytes uploaded so far;
the end of standard input ends the program.
"""
import os
import sys
import threading
import time

import libtorrent as lt


def parameters(mode, torrent, save):
    p = lt.add_torrent_params()
    p.ti = lt.torrent_info(torrent)
    if mode == "seed":
        # The files are known to be right: say so by resume data, and nothing is hashed.
        n = p.ti.num_pieces()
        resume = {
            b"file-format": b"libtorrent resume file", b"file-version": 1,
            b"info-hash": p.ti.info_hash().to_bytes(), b"pieces": b"\x01" * n,
            b"save_path": save.encode(),
        }
        q = lt.read_resume_data(lt.bencode(resume))
        q.ti = p.ti
        # Resume data replaces the trackers of the torrent.
        q.trackers = [t.url for t in p.ti.trackers()]
        p = q
    p.save_path = save
    p.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
    return p


def main():
    mode, listen, torrent, save = sys.argv[1:5]
    limit = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    session = lt.session({
        "listen_interfaces": listen, "enable_dht": False, "enable_lsd": False,
        "enable_upnp": False, "enable_natpmp": False,
        "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.tracker_notification
        | lt.alert.category_t.peer_notification | lt.alert.category_t.status_notification,
    })
    handle = session.add_torrent(parameters(mode, torrent, save))
    if limit:
        # The session's own limit does not hold for peers in the local network.
        handle.set_upload_limit(limit)
    threading.Thread(target=lambda: answer(handle), daemon=True).start()
    said = False
    while True:
        session.wait_for_alert(50)
        for alert in session.pop_alerts():
            print(time.strftime("%H:%M:%S"), alert, file=sys.stderr, flush=True)
        if not said and handle.status().is_seeding:
            said = True
            print("ready" if mode == "seed" else "done", flush=True)


def answer(handle):
    for _ in sys.stdin:
        print("uploaded", handle.status().total_payload_upload, flush=True)
    os._exit(0)


main()
