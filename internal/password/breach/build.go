package breach

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/FastFilter/xorfilter"
)

// BuildConfig says how a filter is built.
type BuildConfig struct {
	MinCount   int64             // passwords seen less often are left out; below 1 it is 1, which leaves out padding lines
	SourceDate time.Time         // of the list
	Progress   func(lines int64) // if given, told every 65,536 lines how many were read
}

// Built is what came of building.
type Built struct {
	Info
	Lines int64 // of the list
	// Missing is about how many lines a hole in the list has swallowed, and MissingAfter is the line before it; 0 if the
	// hashes are spread as evenly as those of a whole list are.
	Missing, MissingAfter int64
}

// Build makes the filter file at path of a list: lines HASH:COUNT, ordered by hash, ended by LF or CRLF, packed with gzip or
// not. HASH is a SHA-1 in hexadecimal digits. It takes about 60 MB of memory whatever the size of the list.
//
// The filter is written beside path, as path.partial, and renamed when it is complete and on the disk: what was at path
// stays until then. When the context ends it returns its error, even while from has nothing to give, and removes what it
// wrote. What a killed process left is not taken for a filter by Open, and is overwritten by the next Build.
func Build(ctx context.Context, from io.Reader, path string, config BuildConfig) (Built, error) {
	config.MinCount = max(config.MinCount, 1)
	file, err := createPartial(path)
	if err != nil {
		return Built{}, fmt.Errorf("breach: %w", err)
	}
	built, err := buildInto(ctx, file, from, config)
	if err == nil {
		err = ctx.Err() // a list that ended because its sender was interrupted as well is not complete
	}
	if err == nil {
		err = publish(file, path)
	}
	if err != nil {
		_ = os.Remove(file.Name()) // what stays is not taken for a filter
		return Built{}, errors.Join(fmt.Errorf("breach: %w", err), file.Close())
	}
	return built, file.Close()
}

// createPartial opens the file that becomes path, for this process alone, and empties it.
func createPartial(path string) (*os.File, error) {
	if stat, err := os.Stat(path); err == nil && !stat.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is there, and is no file", path)
	}
	file, err := os.OpenFile(path+".partial", os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // a public list: the service, another user, reads it
	if err != nil {
		return nil, err
	}
	if err := takeOver(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func takeOver(file *os.File) error {
	if err := lock(file); err != nil {
		return fmt.Errorf("lock %s, which another process may be building: %w", file.Name(), err)
	}
	mine, err := file.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(file.Name())
	if err != nil || !os.SameFile(mine, there) { // another process renamed or removed it after this one had opened it
		return fmt.Errorf("another process was building %s just now", file.Name())
	}
	return file.Truncate(0)
}

// publish gives the complete file its name, for good.
func publish(file *os.File, path string) error {
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func buildInto(ctx context.Context, file *os.File, from io.Reader, config BuildConfig) (Built, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop() // so that nobody waits to hand on what is not read any more
	l, err := openList(ctx, from)
	if err != nil {
		return Built{}, err
	}
	b := newBuilder(file)
	if err := b.readAll(ctx, l, config); err != nil {
		return Built{}, err
	}
	h := header{Magic: magic(), Version: version, MinCount: config.MinCount, SourceDate: config.SourceDate.Unix()}
	if err := b.finish(file, &h); err != nil {
		return Built{}, err
	}
	built := Built{Info: h.info(), Lines: l.lines}
	built.Missing, built.MissingAfter = l.missing()
	return built, nil
}

// builder writes a filter shard by shard.
type builder struct {
	out     *bufio.Writer // to the file, past the place of the header, and to content
	content hash.Hash
	keys    []uint64 // of the shard under way, ascending, none twice
	fuse    xorfilter.BinaryFuseBuilder
	ready   bool // fuse has the memory that it needs
	encoded []byte
	entries []entry
	length  int64 // bytes of fingerprints
	total   int64 // keys written
}

// mostKeys are those of a last shard with what was too little for one of its own.
const mostKeys = shardKeys + minShardKeys

func newBuilder(file io.WriterAt) *builder {
	content := sha256.New()
	past := io.NewOffsetWriter(file, headerSize)
	return &builder{
		out:     bufio.NewWriterSize(io.MultiWriter(past, content), 1<<20),
		content: content,
		keys:    make([]uint64, 0, mostKeys),
	}
}

// readAll turns the lines into shards.
func (b *builder) readAll(ctx context.Context, l *list, config BuildConfig) error {
	for {
		hash, count, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if l.lines%(1<<16) == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if config.Progress != nil {
				config.Progress(l.lines)
			}
		}
		key := keyOf(hash)
		if count < config.MinCount || len(b.keys) > 0 && b.keys[len(b.keys)-1] == key {
			continue
		}
		if len(b.keys) == mostKeys {
			if err := b.shard(shardKeys); err != nil {
				return err
			}
		}
		b.keys = append(b.keys, key)
	}
	if len(b.keys) == 0 {
		return fmt.Errorf("no entry is left of the %d lines of the list", l.lines)
	}
	return b.shard(len(b.keys))
}

// shard writes the first n keys as a shard, and keeps the others.
func (b *builder) shard(n int) error {
	if !b.ready && n >= shardKeys { // more shards may follow, of up to mostKeys
		b.fuse = xorfilter.MakeBinaryFuseBuilder[uint16](mostKeys)
	}
	b.ready = true
	first := b.keys[0]
	built, err := xorfilter.BuildBinaryFuse[uint16](&b.fuse, b.keys[:n])
	if err != nil {
		return fmt.Errorf("build shard %d: %w", len(b.entries), err)
	}
	b.encoded, err = binary.Append(b.encoded[:0], binary.LittleEndian, built.Fingerprints)
	if err != nil {
		return fmt.Errorf("encode shard %d: %w", len(b.entries), err)
	}
	if _, err := b.out.Write(b.encoded); err != nil {
		return fmt.Errorf("write shard %d: %w", len(b.entries), err)
	}
	b.entries = append(b.entries, entry{
		First: first, Seed: built.Seed, Keys: uint32(n), SegmentLength: built.SegmentLength, Segments: built.SegmentCount, //nolint:gosec // n is mostKeys at most
	})
	b.length += int64(len(b.encoded))
	b.total += int64(n)
	b.keys = append(b.keys[:0], b.keys[n:]...)
	return nil
}

// finish writes the index and then, once everything else is on the disk, the header that makes the file a filter.
func (b *builder) finish(file *os.File, h *header) error {
	if len(b.entries) > maxShards {
		return fmt.Errorf("%d shards are more than a filter can have", len(b.entries))
	}
	if err := b.out.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	index := littleEndian(b.entries)
	h.Shards, h.Entries = uint32(len(b.entries)), b.total //nolint:gosec // maxShards at most
	h.Size = headerSize + b.length + int64(len(index))
	h.Content = [sha256.Size]byte(b.content.Sum(nil))
	if _, err := file.WriteAt(index, headerSize+b.length); err != nil {
		return fmt.Errorf("write the index: %w", err)
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if _, err := file.WriteAt(h.encode(index), 0); err != nil {
		return fmt.Errorf("write the header: %w", err)
	}
	return file.Sync()
}
