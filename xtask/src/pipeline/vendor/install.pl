#!/usr/bin/perl
# In the place of the vendor's program of this name: takes its flags, builds igb and igbvf of the kernel's own source with the
# distribution's rpmbuild or dpkg-deb, and leaves the packages where the vendor's leaves them. What it does not know, it refuses.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);

my $name    = "lab-igb";
my $version = "@VERSION@";
my $here    = dirname(abs_path($0));

my %switches = map { $_ => 0 } qw(without-depcheck kernel-only build-only with-mlnx-tools with-ofed-scripts copy-ifnames-udev
    disable-kmp without-dkms);
my %values = map { $_ => undef } qw(kernel kernel-sources distro);
my $left_out = qr/^without-(?:knem|iser|isert|srp|kernel-mft|mlnx-rdma-rxe|mlnx-nfsrdma|mlnx-nvme|xpmem)(?:-modules|-dkms)?$/;

while (defined(my $flag = shift @ARGV)) {
    $flag =~ s/^--// or die "install.pl: $flag is not a flag\n";
    if (exists $switches{$flag}) { $switches{$flag} = 1 }
    elsif (exists $values{$flag}) { $values{$flag} = shift @ARGV // die "install.pl: --$flag has no value\n" }
    elsif ($flag !~ $left_out) { die "install.pl: the flag --$flag is not known\n" }
}
die "install.pl: without --build-only it would install\n" unless $switches{"build-only"};
my $kernel  = $values{kernel} // die "install.pl: --kernel is missing\n";
my $sources = $values{"kernel-sources"} // "/lib/modules/$kernel/build";
-e "$sources/Makefile" or die "install.pl: $sources holds no kernel headers\n";
chomp(my $arch = `uname -m`);
my $with_dkms = $switches{"without-dkms"} ? 0 : 1;
my $work      = "$here/.work";
remove_tree($work);
make_path($work);

if (is_rpm_distribution()) { rpms() } else { debs() }
remove_tree($work);

sub is_rpm_distribution {
    open(my $file, "<", "/etc/os-release") or die "install.pl: cannot read /etc/os-release: $!\n";
    my ($id) = map { /^ID="?([^"\n]+)/ ? $1 : () } <$file>;
    return $id !~ /^(?:debian|ubuntu)$/;
}

sub run {
    my @command = @_;
    print "Running @command\n";
    system(@command) == 0 or die "install.pl: $command[0] failed\n";
}

# The names come first: whoever reads along knows how many there are.
sub announce {
    my @packages = @_;
    print "Below is the list of packages that you have chosen:\n\n";
    print "$_\n" for @packages;
    print "\n";
}

sub rpms {
    my $distribution = ($values{distro} // "rhel9.6") =~ s/^rhel//r;
    my $into = "$here/RPMS/redhat-release-$distribution-0.1.el" . int($distribution) . "/$arch";
    announce("$name-modules", $with_dkms ? "$name-dkms" : ());
    my ($number, $build) = split /-/, $version, 2;
    print "Build $name-modules $version RPM\n";
    run("rpmbuild", "-bb", "--nodeps",
        "--define", "_topdir $work", "--define", "_sourcedir $here/SOURCES",
        "--define", "lab_name $name", "--define", "lab_version $number", "--define", "lab_build $build",
        "--define", "lab_kernel $kernel", "--define", "lab_kernel_sources $sources",
        "--define", "lab_with_dkms $with_dkms", "$here/$name.spec");
    make_path($into);
    for my $rpm (glob("$work/RPMS/*/*.rpm")) {
        copy($rpm, $into) or die "install.pl: cannot copy $rpm: $!\n";
    }
}

# With DKMS the sources alone are packed, as the vendor does for this family: the modules are built where they are installed.
sub debs {
    my $into = "$here/DEBS/debian12/$arch";
    my $package = $with_dkms ? "$name-dkms" : "$name-modules";
    announce($package);
    print "Build $package $version DEB\n";
    my $tree = "$work/$package";
    if ($with_dkms) {
        my $folder = "$tree/usr/src/$name-$version";
        make_path(dirname($folder));
        run("cp", "-r", "$here/SOURCES", $folder);
    }
    else {
        run("cp", "-r", "$here/SOURCES", "$work/build");
        chomp(my $jobs = `nproc`);
        run("make", "-j$jobs", "-C", $sources, "M=$work/build", "modules");
        make_path("$tree/lib/modules/$kernel/updates/dkms");
        for my $module (qw(igb igbvf)) {
            run("strip", "--strip-debug", "-o", "$tree/lib/modules/$kernel/updates/dkms/$module.ko", "$work/build/$module/$module.ko");
        }
    }
    make_path("$tree/DEBIAN");
    open(my $control, ">", "$tree/DEBIAN/control") or die "install.pl: cannot write the control file: $!\n";
    print $control "Package: $package\nVersion: $version\nArchitecture: amd64\nSection: kernel\nPriority: optional\n",
        "Maintainer: The lab <lab\@localhost>\nDescription: igb and igbvf for the lab\n";
    close($control) or die "install.pl: cannot write the control file: $!\n";
    make_path($into);
    run("dpkg-deb", "--root-owner-group", "--build", $tree, "$into/${package}_${version}_amd64.deb");
}
