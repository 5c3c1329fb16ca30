package swarm

import (
	"swarmfs/swarm/wire"
)

// metadataService is what one peer gets of the info dictionary (BEP 9).
type metadataService struct {
	theirs uint8 // the peer's identifier of ut_metadata; 0: it does not speak it
	sent   int   // bytes
}

// Nobody needs the dictionary more than once; some lose a piece or two.
const metadataShare = 2

// metadataWanted answers a request for a piece of the info dictionary. Beyond its
// share a peer gets refusals, which cost less than what it sends.
func (p *peer) metadataWanted(payload []byte) error {
	m, err := wire.ParseMetadata(payload)
	if err != nil {
		return err
	}
	if m.Type != wire.MetadataRequest || p.metadata.theirs == 0 {
		return nil
	}
	raw := p.run.t.info.Raw
	reply := wire.Metadata{Type: wire.MetadataReject, Piece: m.Piece}
	begin := int64(m.Piece) * wire.MetadataPieceLen
	if begin < int64(len(raw)) && p.metadata.sent < metadataShare*len(raw) {
		data := raw[begin:min(begin+wire.MetadataPieceLen, int64(len(raw)))]
		p.metadata.sent += len(data)
		reply = wire.Metadata{Type: wire.MetadataData, Piece: m.Piece, TotalSize: len(raw), Data: data}
	}
	if !p.out.append(wire.Message{Kind: wire.Extended, Ext: p.metadata.theirs, Data: wire.AppendMetadata(nil, reply)}) {
		return errDeaf
	}
	p.out.signal()
	return nil
}
