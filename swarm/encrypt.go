package swarm

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"expvar"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/anacrolix/torrent/mse"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// Encryption says which connections are encrypted: Message Stream Encryption,
// https://wiki.vuze.com/w/Message_Stream_Encryption. It hides from bystanders
// what is spoken, and stops nobody who knows the infohash.
type Encryption int

const (
	// EncryptionPrefer hides the handshake of what is dialled, and speaks plainly
	// to who does not know that. Payload is encrypted if the other side insists.
	EncryptionPrefer Encryption = iota
	// EncryptionRequire has no connection that is not encrypted throughout.
	EncryptionRequire
	// EncryptionOff has plain connections alone.
	EncryptionOff
)

var encryptionNames = [...]string{EncryptionPrefer: "prefer", EncryptionRequire: "require", EncryptionOff: "off"}

// ParseEncryption reads "prefer", "require" or "off".
func ParseEncryption(s string) (Encryption, error) {
	for e, name := range encryptionNames {
		if s == name {
			return Encryption(e), nil
		}
	}
	return 0, fmt.Errorf("encryption %q is none of prefer, require, off", s)
}

// String returns the name that ParseEncryption reads.
func (e Encryption) String() string { return encryptionNames[e] }

// methods are what may follow the encrypted handshake.
func (e Encryption) methods() mse.CryptoMethod {
	if e == EncryptionRequire {
		return mse.CryptoMethodRC4
	}
	return mse.AllSupportedCrypto
}

// choose picks one of the methods that a peer offers, 0 if none will do. Plain
// text comes first: the bystander has missed the handshake, and it costs nothing.
func (e Encryption) choose(offered mse.CryptoMethod) mse.CryptoMethod {
	both := offered & e.methods()
	if both&mse.CryptoMethodPlaintext != 0 {
		return mse.CryptoMethodPlaintext
	}
	return both
}

// Protection is how a connection is hidden from bystanders.
type Protection uint8

const (
	// ProtectionNone: it is plain.
	ProtectionNone Protection = iota
	// ProtectionHandshake: the handshakes were encrypted, what follows is plain.
	ProtectionHandshake
	// ProtectionRC4: all of it is encrypted.
	ProtectionRC4
)

// String returns "none", "handshake" or "rc4".
func (p Protection) String() string { return [...]string{"none", "handshake", "rc4"}[p] }

// encryptedConn is a connection after an encrypted handshake.
type encryptedConn struct {
	net.Conn
	stream io.ReadWriter // decrypts and encrypts; what the handshake left over comes first
	method mse.CryptoMethod
}

// The cipher keeps a buffer as large as the largest read or write.
const maxCipherChunk = 64 << 10

// Read reads from the stream.
func (c *encryptedConn) Read(p []byte) (int, error) {
	if c.method == mse.CryptoMethodRC4 {
		p = p[:min(len(p), maxCipherChunk)]
	}
	return c.stream.Read(p)
}

// Write writes to the stream.
func (c *encryptedConn) Write(p []byte) (int, error) {
	if c.method != mse.CryptoMethodRC4 {
		return c.stream.Write(p)
	}
	done := 0
	for done < len(p) {
		n, err := c.stream.Write(p[done:min(len(p), done+maxCipherChunk)])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// protectionOf says how a connection is hidden.
func protectionOf(conn net.Conn) Protection {
	c, ok := conn.(*encryptedConn)
	switch {
	case !ok:
		return ProtectionNone
	case c.method == mse.CryptoMethodRC4:
		return ProtectionRC4
	}
	return ProtectionHandshake
}

// socketOf returns the connection below the encryption.
func socketOf(conn net.Conn) net.Conn {
	if c, ok := conn.(*encryptedConn); ok {
		return c.Conn
	}
	return conn
}

const publicKeyLen = 96

// Keys from which on no secret follows: p-1 has order 2, and 0 and 1 stay what
// they are (so does p, and all beyond are others in disguise).
var (
	smallestKey   = append(make([]byte, publicKeyLen-1), 2)
	largestKey, _ = hex.DecodeString("ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74" +
		"020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6" +
		"f44c42e9a63a36210000000000090561")
)

var errDegenerateKey = errors.New("its public key makes no secret")

// keyed is a connection that begins with a public key, which is checked as it
// passes by.
type keyed struct {
	net.Conn
	early []byte // was read already
	key   []byte // so far
}

// Read reads what was read already, then from the connection.
func (k *keyed) Read(p []byte) (n int, err error) {
	if len(k.early) > 0 {
		n = copy(p, k.early)
		k.early = k.early[n:]
	} else {
		n, err = k.Conn.Read(p)
	}
	if lacks := publicKeyLen - len(k.key); lacks > 0 && n > 0 {
		k.key = append(k.key, p[:min(n, lacks)]...)
		if len(k.key) == publicKeyLen && (bytes.Compare(k.key, smallestKey) < 0 || bytes.Compare(k.key, largestKey) > 0) {
			return 0, errDegenerateKey
		}
	}
	return n, err
}

// encryptTimeout is how long somebody who was dialled may take for the encrypted
// handshake: who does not know it may wait in silence for a plain one.
const encryptTimeout = 5 * time.Second

// initiate shakes hands under encryption. Ours goes along with the request for
// it, which saves a round trip.
func (s *Session) initiate(ctx context.Context, conn net.Conn, hash metainfo.Hash) (net.Conn, wire.Handshake, error) {
	stop, err := boundShake(ctx, conn, encryptTimeout)
	if err != nil {
		return conn, wire.Handshake{}, err
	}
	defer stop()
	// Reads end with the connection, so that the library's context is not needed;
	// with one that ends it leaves a goroutine behind.
	stream, method, err := mse.InitiateHandshake(&keyed{Conn: conn}, hash[:], s.handshake(hash), s.opts.Encryption.methods())
	if err != nil {
		return conn, wire.Handshake{}, fmt.Errorf("encrypt: %w", err)
	}
	enc := &encryptedConn{conn, stream, method}
	hs, _, err := readHandshake(enc)
	if err != nil {
		return conn, wire.Handshake{}, err
	}
	return enc, hs, conn.SetDeadline(time.Time{})
}

// Encrypted handshakes that are answered a second, in the long run: each takes
// half a millisecond, and anybody may ask for one.
const encryptedPerSec = 250

// receive answers an encrypted handshake that begins with early.
func (s *Session) receive(ctx context.Context, conn net.Conn, early []byte) (net.Conn, wire.Handshake, error) {
	key := make([]byte, publicKeyLen)
	n := copy(key, early)
	if _, err := io.ReadFull(conn, key[n:]); err != nil { // who sends less costs no calculation
		return conn, wire.Handshake{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := s.encrypting.Wait(ctx); err != nil {
		return conn, wire.Handshake{}, err
	}
	var secret []byte
	hashes := s.infohashes()
	stream, method, err := mse.ReceiveHandshake(context.Background(), &keyed{Conn: conn, early: key}, func(try func([]byte) bool) {
		for i := range hashes {
			secret = hashes[i][:]
			if !try(secret) {
				return
			}
		}
	}, func(offered mse.CryptoMethod) mse.CryptoMethod {
		forgetOffers()
		return s.opts.Encryption.choose(offered)
	})
	if err != nil {
		return conn, wire.Handshake{}, fmt.Errorf("encrypt: %w", err)
	}
	enc := &encryptedConn{conn, stream, method}
	hs, _, err := readHandshake(enc)
	if err == nil && !bytes.Equal(hs.InfoHash[:], secret) {
		err = errStranger
	}
	return enc, hs, err
}

// forgetOffers empties what the library counts of the methods that peers offer:
// each can be any of 2³², and it counts them for ever.
func forgetOffers() {
	if m, ok := expvar.Get("mseCryptoProvides").(*expvar.Map); ok {
		m.Init()
	}
}

// infohashes are what peers may want of us.
func (s *Session) infohashes() []metainfo.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]metainfo.Hash, 0, len(s.torrents)+len(s.links))
	list = slices.AppendSeq(list, maps.Keys(s.torrents))
	return slices.AppendSeq(list, maps.Keys(s.links))
}
